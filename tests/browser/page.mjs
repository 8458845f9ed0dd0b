// node page.mjs SCENARIO BASE [ARGUMENT…]: runs scenarios/SCENARIO.mjs with the library at BASE in headless Chromium, and prints what it
// saw as JSON. The scenario acts and looks; what is right is for the test that started it to say.
import { launch, listen, PLAYING } from './launch.mjs';

const [name, base, ...rest] = process.argv.slice(2);
if (!base || !/^[a-z]+$/.test(name)) {
  console.error('usage: node page.mjs SCENARIO BASE [ARGUMENT…]');
  process.exit(2);
}
const { options, run } = await import(`./scenarios/${name}.mjs`);
const browser = await launch(PLAYING);
try {
  const context = await browser.newContext(options);
  const tab = listen(await context.newPage());
  console.log(JSON.stringify(await run(tab, base, ...rest)));
} finally {
  await browser.close();
}
