// The service worker: one classic script that knows the files of the pages built just before it. Its bytes change with theirs, which is
// how a browser learns of a new version.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { defineConfig } from 'vite';

const files = readdirSync('dist/_page').sort();
const hash = createHash('sha256');
for (const file of [...files.map((name) => `_page/${name}`), 'index.html', 'watch/index.html']) {
  hash.update(file).update(readFileSync(`dist/${file}`));
}

export default defineConfig({
  publicDir: false,
  define: {
    VERSION: JSON.stringify(hash.digest('hex').slice(0, 16)),
    ASSETS: JSON.stringify(files.map((name) => `_page/${name}`)),
  },
  build: {
    target: 'es2022',
    emptyOutDir: false,
    lib: { entry: 'worker/main.ts', formats: ['iife'], name: 'worker', fileName: () => 'sw.js' },
  },
});
