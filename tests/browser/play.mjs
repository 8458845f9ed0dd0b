// node play.mjs PAGE SOURCE: opens PAGE in headless Chromium, has it play SOURCE, and prints what happened as JSON.
// REELGATE_CHROMIUM names the browser; without it a known path, else playwright-core's own.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [page, source] = process.argv.slice(2);
if (!source) {
  console.error('usage: node play.mjs PAGE SOURCE');
  process.exit(2);
}
const known = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path));
const browser = await chromium.launch({
  executablePath: process.env.REELGATE_CHROMIUM || known,
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
    '--autoplay-policy=no-user-gesture-required',
    // A page on a private address may not fetch from one; loopback is fine without, a container's address is not.
    '--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests',
  ],
});
try {
  const tab = await browser.newPage();
  tab.on('console', (message) => console.error(`console: ${message.text()}`));
  tab.on('requestfailed', (request) => console.error(`failed: ${request.url()} ${request.failure()?.errorText}`));
  await tab.goto(page);
  const limit = new Promise((_, reject) => {
    setTimeout(() => reject(new Error('the film did not end within 90 seconds')), 90_000).unref();
  });
  const result = await Promise.race([tab.evaluate((url) => window.play(url), source), limit]);
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
