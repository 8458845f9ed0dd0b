// Lists, searches as one types, opens a title by its card.
import { WAIT } from '../watch.mjs';

const names = (tab) => tab.$$eval('#titles .card-name', (cards) => cards.map((card) => card.textContent));

export async function run(tab, base, query) {
  await tab.goto(`${base}/`);
  await tab.waitForSelector('#titles .card-name');
  const all = await names(tab);
  const pictures = await tab.$$eval('#titles .art-initials', (drawn) => drawn.map((letters) => letters.textContent));
  await tab.keyboard.press('/');
  await tab.keyboard.type(query);
  await tab.waitForFunction((before) => document.querySelectorAll('#titles .card-name').length < before, all.length, WAIT);
  const found = await names(tab);
  const address = tab.url();
  await tab.fill('#search', 'nothing has this name');
  await tab.waitForSelector('#message:not([hidden])');
  const words = await tab.textContent('#message');
  await tab.fill('#search', query);
  await tab.waitForSelector('#titles .card-name');
  await tab.selectOption('#order', 'longest');
  await tab.click('#titles .card');
  await tab.waitForSelector('#video');
  return { all, pictures, found, address, words, opened: await tab.title() };
}
