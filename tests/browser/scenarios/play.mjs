// Plays a title from its beginning to its end: another quality, a seek on and one back.
import { choose, ended, open, plays, seen, WAIT } from '../watch.mjs';

export async function run(tab, base, id) {
  await open(tab, base, id);
  await plays(tab, 1.5);
  await tab.keyboard.press('i');
  const facts = () => tab.$$eval('#facts dd', (list) => Object.fromEntries(list.map((fact) => [fact.dataset.fact, fact.textContent])));
  const before = await facts();
  await tab.click('#quality');
  const qualities = await tab.$$eval('#menu [role="menuitemradio"]', (items) => items.map((item) => item.textContent));
  await tab.keyboard.press('Escape');
  await choose(tab, 'quality', '240p');
  await tab.waitForFunction(() => video.videoHeight === 240, undefined, WAIT);
  await tab.keyboard.press('7');
  await tab.waitForFunction(() => window.seen.seeks === 1, undefined, WAIT);
  const duration = (await seen(tab)).duration;
  await plays(tab, duration * 0.7 + 0.5);
  await tab.keyboard.press('2');
  await tab.waitForFunction(() => window.seen.seeks === 2, undefined, WAIT);
  await choose(tab, 'quality', '360p');
  await tab.waitForFunction(() => video.videoHeight === 360, undefined, WAIT);
  await ended(tab);
  return { ...(await seen(tab)), before, qualities, facts: await facts() };
}
