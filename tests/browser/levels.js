// The page's side: plays a source to its end and goes from one level to the other every few seconds, and tells what went wrong on the way.
'use strict';

/* global Hls */
window.play = (source) =>
  new Promise((resolve) => {
    const video = document.getElementById('video');
    const result = { ended: false, errors: [], stalls: [], shown: [], ranges: {}, frames: 0, corrupted: 0 };
    const hls = new Hls({ maxBufferLength: 30, startLevel: 0 });
    const EVERY_S = 3;
    let moving = false;
    let next = EVERY_S;

    const finish = () => {
      const quality = video.getVideoPlaybackQuality();
      result.frames = quality.totalVideoFrames;
      result.corrupted = quality.corruptedVideoFrames || 0;
      if (video.error) result.errors.push(`media: ${video.error.message}`);
      hls.destroy();
      resolve(result);
    };
    hls.on(Hls.Events.ERROR, (_, data) => {
      result.errors.push(`${data.type} ${data.details}`);
      if (data.fatal) finish();
    });
    hls.on(Hls.Events.BUFFER_CREATED, (_, { tracks }) => {
      for (const [name, { buffer }] of Object.entries(tracks)) {
        result.ranges[name] = 0;
        buffer.addEventListener('updateend', () => {
          // Of what is left where the other level takes its place there may be two for a moment; at the end there is one.
          if (buffer.buffered) result.ranges[name] = buffer.buffered.length;
        });
      }
    });
    hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => result.shown.push(hls.levels[level].url[0].split('/').at(-2)));
    video.addEventListener('playing', () => {
      moving = true;
    });
    video.addEventListener('waiting', () => {
      if (moving && video.duration - video.currentTime > 0.3) result.stalls.push(video.currentTime);
    });
    video.addEventListener('timeupdate', () => {
      if (video.currentTime < next || hls.levels.length < 2) return;
      next += EVERY_S;
      hls.nextLevel = hls.currentLevel === 0 ? hls.levels.length - 1 : 0;
    });
    video.addEventListener('ended', () => {
      result.ended = true;
      finish();
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      video.muted = true;
      video.play().catch((error) => {
        result.errors.push(`play: ${error}`);
        finish();
      });
    });
    hls.loadSource(source);
    hls.attachMedia(video);
  });
