// On a phone: everything within the screen, targets large enough for a finger, and taps.
import { open, plays, seen, WAIT } from '../watch.mjs';

export const options = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

/** What is too small for a finger, or sticks out of the screen, by id or class. */
const wrong = (tab) =>
  tab.$$eval('a, button, input, select', (elements) =>
    elements
      .filter((element) => element.checkVisibility({ visibilityProperty: true }) && element.closest('.row') === null)
      .filter((element) => {
        const { left, right, width, height } = element.getBoundingClientRect();
        return left < 0 || right > innerWidth || width < 40 || height < 40;
      })
      .map((element) => element.id || element.className),
  );
const wide = (tab) => tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);

export async function run(tab, base, id) {
  await tab.goto(`${base}/`);
  await tab.waitForSelector('#titles .card-name');
  const library = { wrong: await wrong(tab), wide: await wide(tab) };
  await open(tab, base, id);
  await plays(tab, 0.3);
  await tab.keyboard.press('k');
  const watch = { wrong: await wrong(tab), wide: await wide(tab) };
  await tab.tap('#quality');
  const menu = { wrong: await wrong(tab), wide: await wide(tab) };
  await tab.touchscreen.tap(195, 300);
  const before = (await seen(tab)).at;
  for (let tap = 0; tap < 2; tap += 1) await tab.touchscreen.tap(350, 420);
  await tab.waitForFunction((at) => !video.seeking && video.currentTime > at + 5, before, WAIT);
  return { library, watch, menu, skipped: (await seen(tab)).at - before };
}
