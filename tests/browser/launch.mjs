// Headless Chromium for the tests. REELGATE_CHROMIUM names the browser; without it a known path, else playwright-core's own.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const ALWAYS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
];
/** For pages that play: at once, and from a private address too (loopback is fine without, a container's address is not). */
export const PLAYING = [
  '--disable-quic',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests',
];

export function launch(more) {
  const known = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path));
  return chromium.launch({
    executablePath: process.env.REELGATE_CHROMIUM || known,
    headless: true,
    args: [...ALWAYS, ...more],
  });
}

/** What the page complains of goes to standard error. */
export function listen(tab) {
  tab.on('console', (message) => console.error(`console: ${message.text()}`));
  tab.on('pageerror', (error) => console.error(`error: ${error}`));
  tab.on('requestfailed', (request) => console.error(`failed: ${request.url()} ${request.failure()?.errorText}`));
  return tab;
}
