// The keyboard, and where a title goes on after a reload.
import { open, plays, seen, WAIT } from '../watch.mjs';

export async function run(tab, base, id) {
  await open(tab, base, id);
  await plays(tab, 0.3);
  const state = (look) => tab.evaluate(look);
  const until = (look) => tab.waitForFunction(look, undefined, WAIT);
  const result = {};
  await tab.keyboard.press('k');
  result.paused = await state(() => video.paused);
  await tab.keyboard.press('5');
  await until(() => !video.seeking && video.currentTime > 5);
  const middle = await state(() => video.currentTime);
  await tab.keyboard.press('ArrowRight');
  await until(() => !video.seeking);
  result.arrow = (await state(() => video.currentTime)) - middle;
  await tab.keyboard.press('j');
  await until(() => !video.seeking);
  result.back = (await state(() => video.currentTime)) - middle;
  await tab.keyboard.press('m');
  result.muted = await state(() => video.muted);
  await tab.keyboard.press('?');
  result.help = await state(() => document.getElementById('help').open);
  await tab.keyboard.press('?');
  result.helpGone = await state(() => !document.getElementById('help').open);
  await tab.keyboard.press('f');
  await until(() => document.fullscreenElement !== null);
  await tab.keyboard.press('f');
  await until(() => document.fullscreenElement === null);
  // The seek bar by its own keys, and a preview under the pointer.
  await tab.hover('#seek', { position: { x: 300, y: 12 } });
  await tab.waitForSelector('#tip-picture:not([hidden])', { timeout: WAIT.timeout });
  result.tip = await state(() => document.getElementById('tip-time').textContent);
  await tab.keyboard.press('5');
  await until(() => !video.seeking);
  result.left = await state(() => video.currentTime);
  await tab.keyboard.press('Space');
  await plays(tab, result.left + 0.5);
  await tab.reload();
  await plays(tab, 1);
  result.resumed = (await seen(tab)).at;
  await tab.click('#home');
  await tab.waitForSelector('#begun-titles .card');
  result.begun = await tab.$$eval('#begun-titles .card-name', (cards) => cards.map((card) => card.textContent));
  return result;
}
