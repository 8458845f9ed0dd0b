// Another player's thumbnails: shaka-player reads a playlist or manifest of a title and says where the picture of some times lies; each is
// cut out of its sheet and its light measured.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const library = createRequire(import.meta.url).resolve('shaka-player/dist/shaka-player.compiled.js');

export const options = { bypassCSP: true };

export async function run(tab, base, source, ...times) {
  await tab.route('**/watch/shaka', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>shaka</title><video id="video" muted></video>' }),
  );
  await tab.goto(`${base}/watch/shaka`);
  await tab.addScriptTag({ content: readFileSync(library, 'utf8') });
  return tab.evaluate(
    async ([url, times]) => {
      shaka.polyfill.installAll();
      const player = new shaka.Player();
      await player.attach(document.getElementById('video'));
      await player.load(url);
      const tracks = player.getImageTracks().map(({ width, height, mimeType }) => ({ width, height, mimeType }));
      const pictures = [];
      for (const time of times) {
        const tile = await player.getThumbnails(null, time);
        const sheet = new Image();
        sheet.src = tile.uris[0];
        await sheet.decode();
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [tile.width, tile.height];
        const context = canvas.getContext('2d');
        context.drawImage(sheet, tile.positionX, tile.positionY, tile.width, tile.height, 0, 0, tile.width, tile.height);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let at = 0; at < data.length; at += 4) sum += data[at + 1];
        const { startTime, duration, width, height } = tile;
        pictures.push({ startTime, duration, width, height, light: sum / (data.length / 4), whole: [sheet.naturalWidth, sheet.naturalHeight] });
      }
      return { tracks, pictures };
    },
    [`${base}${source}`, times.map(Number)],
  );
}
