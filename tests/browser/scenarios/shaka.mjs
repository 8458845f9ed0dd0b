// Another player than the page's own: shaka-player plays a playlist or manifest of a title to its end, with a seek on and one back.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ended, open, plays, seen, WAIT } from '../watch.mjs';

const library = createRequire(import.meta.url).resolve('shaka-player/dist/shaka-player.compiled.js');

export const options = { bypassCSP: true };

export async function run(tab, base, source) {
  // Any page of the site will do: this one has a video and nothing else.
  await tab.route('**/watch/shaka', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>shaka</title><p id="message" hidden></p><video id="video" muted></video>' }),
  );
  await open(tab, base, 'shaka');
  await tab.addScriptTag({ content: readFileSync(library, 'utf8') });
  await tab.evaluate(async (url) => {
    window.errors = [];
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    player.addEventListener('error', ({ detail }) => window.errors.push(`${detail.severity} ${detail.code}`));
    await player.attach(video);
    await player.load(url);
    window.player = player;
    await video.play();
  }, `${base}${source}`);
  await plays(tab, 1);
  const { duration } = await seen(tab);
  for (const [share, count] of [[0.7, 1], [0.2, 2]]) {
    await tab.evaluate((at) => (video.currentTime = at), duration * share);
    await tab.waitForFunction((n) => window.seen.seeks === n, count, WAIT);
    await plays(tab, duration * share + 0.7);
  }
  await ended(tab);
  const more = await tab.evaluate(() => ({ errors: window.errors, variants: window.player.getVariantTracks().length }));
  return { ...(await seen(tab)), ...more };
}
