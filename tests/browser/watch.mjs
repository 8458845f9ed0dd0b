// What a viewer would notice: opens the player page of a title and listens to its video from the first moment on.

/** Runs in the page before its own scripts. To wait after a start or a seek is no stall; to wait while moving is one. */
function observe() {
  const seen = { stalls: [], words: [], seeks: 0, ended: false, playing: 0, firstMs: 0 };
  window.seen = seen;
  document.addEventListener('DOMContentLoaded', () => {
    const video = document.getElementById('video');
    if (!video) return;
    let moving = false;
    const on = (event, run) => video.addEventListener(event, run);
    on('playing', () => {
      moving = true;
      seen.playing += 1;
      seen.firstMs ||= performance.now();
    });
    on('seeking', () => {
      moving = false;
      seen.ended = false;
    });
    on('seeked', () => (seen.seeks += 1));
    on('pause', () => (moving = false));
    on('ended', () => (seen.ended = true));
    on('waiting', () => {
      if (moving && !video.seeking && video.duration - video.currentTime > 0.3) seen.stalls.push(video.currentTime);
    });
    const message = document.getElementById('message');
    const note = () => !message.hidden && seen.words.push(message.textContent);
    new MutationObserver(note).observe(message, { attributes: true, childList: true });
  });
}

export const WAIT = { timeout: Number(process.env.REELGATE_TEST_PATIENCE_S || 20) * 3000, polling: 50 };

export async function open(tab, base, id, at = '') {
  await tab.addInitScript(observe);
  await tab.goto(`${base}/watch/${id}${at}`);
}

export const plays = (tab, after = 0) =>
  tab.waitForFunction((s) => !video.paused && !video.seeking && video.currentTime > s, after, WAIT);
export const ended = (tab) => tab.waitForFunction(() => window.seen.ended && video.ended, undefined, WAIT);

/** So many seconds are there to be shown. */
export const buffered = (tab, seconds) =>
  tab.waitForFunction(
    (s) => Array.from({ length: video.buffered.length }, (_, i) => i).some((i) => video.buffered.start(i) <= video.currentTime && video.buffered.end(i) >= video.currentTime + s),
    seconds,
    WAIT,
  );

/** What was seen, and how the video stands. */
export const seen = (tab) =>
  tab.evaluate(() => ({
    ...window.seen,
    at: video.currentTime,
    duration: video.duration,
    height: video.videoHeight,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    ranges: video.buffered.length,
  }));

export async function choose(tab, menu, label) {
  await tab.click(`#${menu}`);
  await tab.click(`#menu [role="menuitemradio"] :text-is("${label}")`);
}
