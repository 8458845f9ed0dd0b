// The seek bar pointed at: what it shows there, and what it fetched for that. Then a grid of cards, and which pictures it fetched.
import { open, plays, WAIT } from '../watch.mjs';

/** The picture under the pointer at a share of the bar, as its size and its average colour. */
async function look(tab, share) {
  const box = await (await tab.$('#seek')).boundingBox();
  await tab.mouse.move(box.x + box.width * share, box.y + box.height / 2);
  const handle = await tab.waitForFunction(
    (before) => {
      const canvas = document.getElementById('tip-picture');
      if (canvas.hidden || canvas.width === 0) return null;
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let sum = 0;
      for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
      const seen = { width: canvas.width, height: canvas.height, light: sum / (data.length / 4) / 3 };
      return before !== null && Math.abs(before - seen.light) < 3 ? null : seen;
    },
    look.last ?? null,
    WAIT,
  );
  const seen = await handle.jsonValue();
  look.last = seen.light;
  return { ...seen, time: await tab.textContent('#tip-time') };
}

export async function run(tab, base, id) {
  const fetched = [];
  tab.on('response', (response) => fetched.push([new URL(response.url()).pathname.split(`/t/${id}/`)[1], response.headers()['content-type']]));
  await open(tab, base, id);
  await plays(tab, 0.3);
  await tab.keyboard.press('k');
  const pictures = [await look(tab, 0.55), await look(tab, 0.15), await look(tab, 0.9)];
  await tab.mouse.move(200, 100);
  await tab.waitForFunction(() => document.getElementById('tip-picture').hidden, undefined, WAIT);
  const sheets = fetched.filter(([path]) => path?.startsWith('trickplay'));
  await tab.goto(`${base}/`);
  const poster = await tab.waitForSelector('.art-poster.is-there', WAIT);
  const card = await poster.evaluate((picture) => ({ source: picture.currentSrc, width: picture.naturalWidth }));
  const posters = fetched.filter(([path]) => path?.startsWith('poster'));
  return { pictures, sheets, card, posters };
}
