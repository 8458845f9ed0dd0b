// Where a title was left, and keeping it.

import { load, resumeAt, save } from '../common/progress';

const EVERY_MS = 5000;

/** The place to begin at, in seconds. An address with `#t=90` says so itself. */
export function beginning(id: string, hash: string): number {
  const asked = /^#t=(\d+(?:\.\d+)?)$/.exec(hash)?.[1];
  return asked === undefined ? resumeAt(load()[id]) : Number(asked);
}

export function keepPlace(video: HTMLVideoElement, id: string, name: string): void {
  let last = 0;
  const keep = (): void => {
    if (!Number.isFinite(video.duration) || video.currentTime === 0) return;
    last = Date.now();
    save(id, { name, at: video.currentTime, of: video.duration, when: last });
  };
  video.addEventListener('timeupdate', () => Date.now() - last > EVERY_MS && keep());
  for (const event of ['pause', 'seeked', 'ended']) video.addEventListener(event, keep);
  window.addEventListener('pagehide', keep);
}
