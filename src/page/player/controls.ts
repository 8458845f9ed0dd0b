// The controls over the picture: what each button and gesture does to the video, and when they are seen.

import { icon, make, relabel, the } from '../common/dom';
import { clock } from '../common/text';

const HIDE_MS = 3000;
type FullscreenVideo = HTMLVideoElement & { webkitEnterFullscreen?: () => void };

export class Controls {
  readonly #video: FullscreenVideo;
  readonly #player = the('player', HTMLElement);
  readonly #play = the('play', HTMLButtonElement);
  readonly #mute = the('mute', HTMLButtonElement);
  readonly #volume = the('volume', HTMLInputElement);
  readonly #full = the('fullscreen', HTMLButtonElement);
  readonly #note = the('note', HTMLElement);
  /** While true the controls stay. */
  readonly #stay: () => boolean;
  #timer = 0;
  #noteTimer = 0;

  constructor(video: HTMLVideoElement, stay: () => boolean) {
    this.#video = video;
    this.#stay = stay;
    const click = (id: string, run: () => void): void => the(id, HTMLButtonElement).addEventListener('click', run);
    click('play', () => this.togglePlay());
    click('back', () => this.skip(-10));
    click('forward', () => this.skip(10));
    click('mute', () => this.toggleMute());
    click('pip', () => void this.togglePip());
    click('fullscreen', () => void this.toggleFullscreen());
    the('pip', HTMLButtonElement).hidden = !document.pictureInPictureEnabled;
    this.#volume.addEventListener('input', () => this.setVolume(Number(this.#volume.value)));
    for (const event of ['play', 'pause', 'ended', 'volumechange', 'timeupdate', 'durationchange', 'seeking']) {
      video.addEventListener(event, () => this.#draw());
    }
    for (const event of ['waiting', 'seeking', 'loadstart']) video.addEventListener(event, () => this.#player.classList.add('is-waiting'));
    for (const event of ['playing', 'seeked', 'canplay', 'pause', 'error']) video.addEventListener(event, () => this.#player.classList.remove('is-waiting'));
    for (const event of ['play', 'pause']) video.addEventListener(event, () => this.show());
    document.addEventListener('fullscreenchange', () => this.#draw());
    this.#player.addEventListener('pointermove', (event) => event.pointerType === 'mouse' && this.show());
    this.#player.addEventListener('focusin', () => this.show());
    this.#draw();
    this.show();
  }

  get #playing(): boolean {
    return !this.#video.paused && !this.#video.ended;
  }

  #draw(): void {
    const { currentTime, duration, muted, volume } = this.#video;
    relabel(this.#play, this.#playing ? 'i-pause' : 'i-play', this.#playing ? 'Pause (k)' : 'Play (k)');
    const silent = muted || volume === 0;
    relabel(this.#mute, silent ? 'i-muted' : 'i-sound', silent ? 'Sound on (m)' : 'Mute (m)');
    this.#volume.value = String(muted ? 0 : volume);
    this.#volume.style.setProperty('--played', this.#volume.value);
    const full = document.fullscreenElement !== null;
    relabel(this.#full, full ? 'i-shrink' : 'i-fill', full ? 'Leave full screen (f)' : 'Full screen (f)');
    the('time', HTMLElement).textContent = `${clock(currentTime)} / ${clock(duration)}`;
  }

  /** For a while; for good while nothing plays. */
  show(): void {
    this.#player.classList.remove('is-quiet');
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      const busy = this.#stay() || this.#player.querySelector('.bar:hover, :focus-visible') !== null;
      if (this.#playing && !busy) this.#player.classList.add('is-quiet');
      else if (this.#playing) this.show();
    }, HIDE_MS);
  }

  toggleControls(): void {
    if (this.#player.classList.contains('is-quiet') || !this.#playing) this.show();
    else this.#player.classList.add('is-quiet');
  }

  /** Words or a sign over the picture, gone in a moment. */
  note(text: string, iconName?: string): void {
    this.#note.replaceChildren(...(iconName === undefined ? [] : [icon(iconName)]), make('span', '', text));
    this.#note.hidden = false;
    clearTimeout(this.#noteTimer);
    this.#noteTimer = window.setTimeout(() => (this.#note.hidden = true), 800);
  }

  togglePlay(): void {
    if (this.#playing) this.#video.pause();
    else void this.play();
  }

  /** Browsers let a page begin by itself only without sound. */
  async play(): Promise<void> {
    try {
      await this.#video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== 'NotAllowedError' || this.#video.muted) return;
      this.#video.muted = true;
      await this.#video.play().catch(() => undefined);
    }
  }

  seek(seconds: number): void {
    const { duration } = this.#video;
    if (!Number.isFinite(duration)) return;
    this.#video.currentTime = Math.min(Math.max(seconds, 0), duration);
    this.show();
  }

  skip(seconds: number): void {
    this.seek(this.#video.currentTime + seconds);
    this.note(`${Math.abs(seconds)} s`, seconds < 0 ? 'i-back' : 'i-forward');
  }

  seekShare(share: number): void {
    this.seek(share * this.#video.duration);
  }

  /** One frame at a usual rate; only while paused, as editors do. */
  frame(by: number): void {
    if (!this.#playing) this.seek(this.#video.currentTime + by / 25);
  }

  toggleMute(): void {
    this.#video.muted = !this.#video.muted;
    this.note(this.#video.muted ? 'Muted' : 'Sound on');
    this.show();
  }

  setVolume(volume: number): void {
    this.#video.muted = false;
    this.#video.volume = Math.min(Math.max(volume, 0), 1);
  }

  changeVolume(by: number): void {
    this.setVolume(Math.round((this.#video.volume + by) * 10) / 10);
    this.note(`Volume ${Math.round(this.#video.volume * 100)} %`);
    this.show();
  }

  async togglePip(): Promise<void> {
    try {
      if (document.pictureInPictureElement !== null) await document.exitPictureInPicture();
      else await this.#video.requestPictureInPicture();
    } catch {
      this.note('No picture in picture here');
    }
  }

  async toggleFullscreen(): Promise<void> {
    try {
      if (document.fullscreenElement !== null) return await document.exitFullscreen();
      // iPhones fill the screen with the video alone.
      if (this.#player.requestFullscreen === undefined) return this.#video.webkitEnterFullscreen?.();
      await this.#player.requestFullscreen();
      const turning = screen.orientation as unknown as { lock?: (to: string) => Promise<void> };
      await turning.lock?.('landscape').catch(() => undefined);
    } catch {
      this.note('No full screen here');
    }
  }
}
