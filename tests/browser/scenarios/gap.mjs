// A title that was begun plays on while the network is away: from where it is, and after a reload.
import { ended, open, plays, seen, WAIT } from '../watch.mjs';

const keptSegments = (tab) =>
  tab.evaluate(async () => {
    const names = (await caches.keys()).filter((name) => name.includes(' titles '));
    const lists = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return lists.flat().filter(({ url }) => url.endsWith('.m4s')).length;
  });

export async function run(tab, base, id, segments) {
  await open(tab, base, id);
  await plays(tab, 1);
  // On a slow machine the film would be over before all is kept.
  await tab.keyboard.press('k');
  for (const deadline = Date.now() + WAIT.timeout; (await keptSegments(tab)) < Number(segments); ) {
    if (Date.now() > deadline) throw new Error(`only ${await keptSegments(tab)} segments were kept`);
    await tab.waitForTimeout(100);
  }
  await tab.context().setOffline(true);
  const away = await tab.evaluate(() => fetch('../titles.json?q=away').then(() => false, () => true));
  const middle = await seen(tab);
  await tab.keyboard.press('k');
  await plays(tab, middle.at + 1);
  await tab.reload();
  await plays(tab, 1);
  const again = await seen(tab);
  await tab.keyboard.press('0');
  await tab.waitForFunction(() => window.seen.seeks > 0 && !video.seeking, undefined, WAIT);
  await tab.keyboard.press('8');
  await ended(tab);
  const end = await seen(tab);
  await tab.click('#home');
  await tab.waitForSelector('#titles .card-name');
  const listed = await tab.$$eval('#titles .card-name', (cards) => cards.length);
  await tab.context().setOffline(false);
  return { away, middle, again, end, listed };
}
