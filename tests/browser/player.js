// The page's side: plays a source to its end with two seeks, forward and back, and tells what went wrong on the way.
'use strict';

/* global Hls */
window.play = (source) =>
  new Promise((resolve) => {
    const video = document.getElementById('video');
    const result = { ended: false, fatal: [], stalls: [], errors: [], seeks: 0, frames: 0, levels: 0, codecs: [] };
    const hls = new Hls({ maxBufferLength: 30 });
    const targets = [7, 1];
    let moving = false;

    const finish = () => {
      result.frames = video.getVideoPlaybackQuality().totalVideoFrames;
      result.levels = hls.levels.length;
      result.position = video.currentTime;
      result.duration = video.duration;
      hls.destroy();
      resolve(result);
    };
    hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => {
      result.codecs.push(hls.levels[level].videoCodec);
    });
    hls.on(Hls.Events.ERROR, (_, data) => {
      result.errors.push(`${data.type} ${data.details} ${data.response ? data.response.code : ''}`);
      if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && moving) {
        result.stalls.push(video.currentTime);
      }
      if (data.fatal) {
        result.fatal.push(`${data.type} ${data.details}`);
        finish();
      }
    });
    // To wait after a start or a seek is no stall; to wait while moving is one.
    video.addEventListener('playing', () => {
      moving = true;
    });
    video.addEventListener('seeking', () => {
      moving = false;
    });
    video.addEventListener('seeked', () => {
      result.seeks += 1;
    });
    video.addEventListener('waiting', () => {
      if (moving && !video.seeking && video.duration - video.currentTime > 0.3) {
        result.stalls.push(video.currentTime);
      }
    });
    let start = 0;
    video.addEventListener('timeupdate', () => {
      if (moving && targets.length > 0 && !video.seeking && video.currentTime > start + 1.5) {
        moving = false;
        start = targets.shift();
        video.currentTime = start;
      }
    });
    video.addEventListener('ended', () => {
      result.ended = true;
      finish();
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      video.muted = true;
      video.play().catch((error) => {
        result.fatal.push(`play: ${error}`);
        finish();
      });
    });
    hls.loadSource(source);
    hls.attachMedia(video);
  });
