// The seek bar: a range for fingers, keys and screen readers, with what was played and what is held drawn behind it, and the
// time and a preview over the place pointed at.

import { the } from '../common/dom';
import { clock } from '../common/text';
import type { Preview } from './sprite_preview';

export class SeekBar {
  readonly #video: HTMLVideoElement;
  readonly #bar = the('seek', HTMLInputElement);
  readonly #track = the('track', HTMLElement);
  readonly #tip = the('tip', HTMLElement);
  readonly #time = the('tip-time', HTMLElement);
  readonly #preview: Preview;
  #dragging = false;

  constructor(video: HTMLVideoElement, seek: (seconds: number) => void, preview: Preview) {
    this.#video = video;
    this.#preview = preview;
    const bar = this.#bar;
    bar.addEventListener('input', () => {
      this.#dragging = true;
      this.#point(Number(bar.value));
      this.draw();
    });
    bar.addEventListener('change', () => {
      this.#dragging = false;
      seek(Number(bar.value));
      this.#leave();
    });
    bar.addEventListener('pointermove', (event) => {
      const box = bar.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      this.#point(share * this.#duration);
    });
    bar.addEventListener('pointerleave', () => this.#dragging || this.#leave());
    for (const event of ['timeupdate', 'progress', 'durationchange', 'seeking']) video.addEventListener(event, () => this.draw());
  }

  get #duration(): number {
    return Number.isFinite(this.#video.duration) ? this.#video.duration : 0;
  }

  draw(): void {
    const [bar, duration] = [this.#bar, this.#duration];
    bar.max = String(duration);
    if (!this.#dragging) bar.value = String(this.#video.currentTime);
    const at = Number(bar.value);
    bar.setAttribute('aria-valuetext', `${clock(at)} of ${clock(duration)}`);
    const share = (seconds: number): string => String(duration > 0 ? seconds / duration : 0);
    this.#track.style.setProperty('--played', share(at));
    this.#track.style.setProperty('--held', share(this.#heldUntil()));
  }

  /** The end of what is held without a hole from here on. */
  #heldUntil(): number {
    const { buffered, currentTime } = this.#video;
    for (let i = 0; i < buffered.length; i += 1) {
      if (buffered.start(i) <= currentTime + 0.3 && currentTime <= buffered.end(i)) return buffered.end(i);
    }
    return currentTime;
  }

  #point(seconds: number): void {
    const duration = this.#duration;
    if (duration === 0) return;
    this.#tip.hidden = false;
    this.#tip.style.setProperty('--at', String(seconds / duration));
    this.#time.textContent = clock(seconds);
    this.#preview.look(seconds, duration);
  }

  #leave(): void {
    this.#tip.hidden = true;
    this.#preview.leave();
  }
}
