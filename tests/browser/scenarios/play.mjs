// Plays a title from its beginning to its end: another quality, a seek on and one back.
import { buffered, choose, ended, open, plays, seen, WAIT } from '../watch.mjs';

export async function run(tab, base, id) {
  await open(tab, base, id);
  await plays(tab, 1);
  await tab.keyboard.press('k');
  await tab.keyboard.press('i');
  const facts = () => tab.$$eval('#facts dd', (list) => Object.fromEntries(list.map((fact) => [fact.dataset.fact, fact.textContent])));
  await tab.click('#quality');
  const qualities = await tab.$$eval('#menu [role="menuitemradio"]', (items) => items.map((item) => item.textContent));
  await tab.keyboard.press('Escape');
  // Chosen while nothing moves: on a slow machine the film would be over before the menu is open.
  await choose(tab, 'quality', '240p');
  await tab.keyboard.press('k');
  await tab.keyboard.press('7');
  await tab.waitForFunction(() => window.seen.seeks === 1, undefined, WAIT);
  await plays(tab, (await seen(tab)).duration * 0.7 + 0.5);
  const low = (await seen(tab)).height;
  await tab.keyboard.press('k');
  await tab.keyboard.press('2');
  await tab.waitForFunction(() => window.seen.seeks === 2, undefined, WAIT);
  await choose(tab, 'quality', '360p');
  // All of it is thrown away and fetched again: a busy machine is slower than the film at first.
  await buffered(tab, 10);
  await tab.keyboard.press('k');
  await ended(tab);
  return { ...(await seen(tab)), low, qualities, facts: await facts() };
}
