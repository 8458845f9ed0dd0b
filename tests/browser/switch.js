// The page's side: plays a source of two levels, changes the level on the way, seeks, and tells what it saw.
'use strict';

/* global Hls */
window.play = (source) =>
  new Promise((resolve) => {
    const video = document.getElementById('video');
    const result = { ended: false, fatal: [], stalls: [], errors: [], heights: [], levels: 0 };
    const hls = new Hls({ maxBufferLength: 30, startLevel: 1 });
    let moving = false;
    let at = 0;
    const by = (height) => hls.levels.findIndex((level) => level.height === height);
    const steps = [
      { after: 0.8, run: () => { hls.nextLevel = by(240); } },
      { after: 4.5, run: () => { hls.nextLevel = by(360); } },
      { after: 8.5, run: () => { moving = false; video.currentTime = 0.4; } },
      { after: 1.0, run: () => { hls.nextLevel = by(240); } },
      { after: 5.0, run: () => { moving = false; video.currentTime = 10; } },
    ];
    const finish = () => {
      result.levels = hls.levels.length;
      hls.destroy();
      resolve(result);
    };
    hls.on(Hls.Events.ERROR, (_, data) => {
      // The origin's picture begins after its sound.
      if (data.details === Hls.ErrorDetails.BUFFER_SEEK_OVER_HOLE && video.currentTime < 0.3) return;
      result.errors.push(`${data.type} ${data.details}`);
      if (data.fatal) {
        result.fatal.push(`${data.type} ${data.details}`);
        finish();
      }
    });
    video.addEventListener('resize', () => result.heights.push(video.videoHeight));
    video.addEventListener('playing', () => { moving = true; });
    video.addEventListener('seeking', () => { moving = false; });
    video.addEventListener('waiting', () => {
      if (moving && !video.seeking && video.duration - video.currentTime > 0.3) result.stalls.push(video.currentTime);
    });
    video.addEventListener('timeupdate', () => {
      if (moving && at < steps.length && !video.seeking && video.currentTime > steps[at].after) {
        steps[at].run();
        at += 1;
      }
    });
    video.addEventListener('ended', () => {
      result.ended = true;
      finish();
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      hls.nextLevel = by(360);
      video.muted = true;
      video.play().catch((error) => {
        result.fatal.push(`play: ${error}`);
        finish();
      });
    });
    hls.loadSource(source);
    hls.attachMedia(video);
  });
