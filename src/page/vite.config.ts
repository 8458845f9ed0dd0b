// The two pages. Everything with a hash in its name goes to `_page/`, which the edge serves as immutable; all addresses are relative,
// so that the pages work below any prefix.
import { rmSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  base: './',
  publicDir: false,
  // Not when tests run: what was built stays.
  plugins: [{ name: 'drop-old-files', apply: 'build', buildStart: () => rmSync('dist/_page', { recursive: true, force: true }) }],
  build: {
    target: 'es2022',
    assetsDir: '_page',
    // The policy allows no `data:` in styles or scripts; and the folder holds a file that git knows.
    assetsInlineLimit: 0,
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    // hls.js, which changes less often than the rest, is a file of its own.
    chunkSizeWarningLimit: 700,
    rollupOptions: {
      input: { library: 'index.html', watch: 'watch/index.html' },
      output: { manualChunks: { hls: ['hls.js'] } },
    },
  },
  test: { include: ['**/*.test.ts'], environment: 'node' },
});
