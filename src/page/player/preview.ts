// Small pictures of the place under the pointer, where a title has no sheets of them: a second player of the smallest rung, without sound, which is begun with the first
// look, seeks where it is asked to, and draws what it finds. Pictures are remembered; looks faster than it can follow are left out.

import Hls, { Events } from 'hls.js';
import type { Preview } from './sprite_preview';

const PICTURES_MAX = 150;
/** Each look may make the server encode four seconds: not more often than this. */
const PAUSE_MS = 200;
const PICTURE_WIDTH = 192;
/** A place not reached by then is given up. */
const PATIENCE_MS = 10_000;
const DRAWS_MAX = 40;
const DRAW_PAUSE_MS = 50;
/** A player may begin a little beside where it was told to. */
const OFF_S = 0.5;

/** A place is reached a little before its picture can be drawn. */
async function pictureOf(video: HTMLVideoElement): Promise<ImageBitmap | undefined> {
  const resizeHeight = Math.round((PICTURE_WIDTH * video.videoHeight) / video.videoWidth);
  for (let tries = 0; tries < DRAWS_MAX; tries += 1) {
    try {
      return await createImageBitmap(video, { resizeWidth: PICTURE_WIDTH, resizeHeight });
    } catch {
      await new Promise((resolve) => setTimeout(resolve, DRAW_PAUSE_MS));
    }
  }
  return undefined;
}

export class PlayerPreview implements Preview {
  readonly #source: string;
  readonly #canvas: HTMLCanvasElement;
  readonly #pictures = new Map<number, ImageBitmap>();
  #video: HTMLVideoElement | undefined;
  #hls: Hls | undefined;
  /** What is wanted, and what is being fetched, as places on the grid. */
  #wanted: number | undefined;
  #running: number | undefined;
  #lastMs = 0;
  #timer = 0;

  constructor(source: string, canvas: HTMLCanvasElement) {
    this.#source = source;
    this.#canvas = canvas;
  }

  /** Shows the picture of a place, in seconds, at once or when it is there. */
  look(seconds: number, duration: number): void {
    // As fine as the eye can point at, and never finer than a second.
    const step = Math.max(1, duration / 200);
    const place = Math.min(Math.round(seconds / step) * step, Math.max(duration - 0.5, 0));
    this.#wanted = place;
    const known = this.#pictures.get(place);
    if (known !== undefined) this.#draw(known);
    else this.#next();
  }

  leave(): void {
    this.#wanted = undefined;
    this.#canvas.hidden = true;
  }

  #next(): void {
    clearTimeout(this.#timer);
    if (this.#running !== undefined && performance.now() - this.#lastMs > PATIENCE_MS) this.#close();
    if (this.#wanted === undefined || this.#running !== undefined || this.#pictures.has(this.#wanted)) return;
    const wait = this.#lastMs + PAUSE_MS - performance.now();
    if (wait > 0) {
      this.#timer = window.setTimeout(() => this.#next(), wait);
      return;
    }
    this.#running = this.#wanted;
    this.#lastMs = performance.now();
    const video = this.#open();
    video.currentTime = this.#running;
  }

  #open(): HTMLVideoElement {
    if (this.#video !== undefined) return this.#video;
    const video = document.createElement('video');
    video.muted = true;
    video.playsInline = true;
    for (const event of ['seeked', 'loadeddata']) video.addEventListener(event, () => void this.#seen(video));
    const small = { maxBufferLength: 1, maxMaxBufferLength: 1, maxBufferSize: 0, backBufferLength: 0 };
    this.#hls = new Hls({ ...small, enableWorker: false, startPosition: this.#running ?? 0 });
    this.#hls.on(Events.ERROR, (_, data) => data.fatal && this.#close());
    this.#hls.loadSource(this.#source);
    this.#hls.attachMedia(video);
    this.#video = video;
    return video;
  }

  async #seen(video: HTMLVideoElement): Promise<void> {
    const place = this.#running;
    if (place === undefined || video.videoWidth === 0 || video.seeking) return;
    if (Math.abs(video.currentTime - place) > OFF_S) {
      video.currentTime = place;
      return;
    }
    const picture = await pictureOf(video);
    // Twice: `seeked` and `loadeddata` may come together.
    if (picture === undefined || this.#running !== place) return picture?.close();
    this.#running = undefined;
    this.#pictures.set(place, picture);
    const oldest = this.#pictures.keys().next().value;
    if (this.#pictures.size > PICTURES_MAX && oldest !== undefined) {
      this.#pictures.get(oldest)?.close();
      this.#pictures.delete(oldest);
    }
    // Better a picture of nearby than none while the right one comes.
    if (this.#wanted !== undefined) this.#draw(picture);
    this.#next();
  }

  #draw(picture: ImageBitmap): void {
    this.#canvas.width = picture.width;
    this.#canvas.height = picture.height;
    this.#canvas.getContext('2d')?.drawImage(picture, 0, 0);
    this.#canvas.hidden = false;
  }

  /** Without pictures there is still the time. The next look tries again. */
  #close(): void {
    this.#hls?.destroy();
    this.#video = this.#hls = this.#running = undefined;
  }
}
