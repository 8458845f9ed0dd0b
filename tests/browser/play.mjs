// node play.mjs PAGE SOURCE: opens PAGE in headless Chromium, has it play SOURCE, and prints what happened as JSON.
import { launch, listen, PLAYING } from './launch.mjs';

const [page, source] = process.argv.slice(2);
if (!source) {
  console.error('usage: node play.mjs PAGE SOURCE');
  process.exit(2);
}
const browser = await launch(PLAYING);
try {
  const tab = listen(await browser.newPage());
  await tab.goto(page);
  const limit = new Promise((_, reject) => {
    setTimeout(() => reject(new Error('the film did not end within 90 seconds')), 90_000).unref();
  });
  const result = await Promise.race([tab.evaluate((url) => window.play(url), source), limit]);
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
