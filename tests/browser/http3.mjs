// node http3.mjs HOST:PORT KEY: opens https://HOST:PORT/ in headless Chromium over QUIC at once, trusting the key with this SHA-256
// (base64), and prints the page's title and what each of its parts came over as JSON.
import { launch, listen } from './launch.mjs';

const [server, key] = process.argv.slice(2);
if (!key) {
  console.error('usage: node http3.mjs HOST:PORT KEY');
  process.exit(2);
}
const browser = await launch([
  '--enable-quic',
  `--origin-to-force-quic-on=${server}`,
  `--ignore-certificate-errors-spki-list=${key}`,
  '--host-resolver-rules=MAP localhost 127.0.0.1',
]);
try {
  const tab = listen(await browser.newPage());
  await tab.goto(`https://${server}/`);
  await tab.waitForFunction(() => document.title === 'whole', undefined, { timeout: 20_000 });
  const result = await tab.evaluate(() => ({
    title: document.title,
    protocols: ['navigation', 'resource']
      .flatMap((type) => performance.getEntriesByType(type))
      .filter((entry) => !entry.name.endsWith('favicon.ico'))
      .map((entry) => entry.nextHopProtocol),
  }));
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
