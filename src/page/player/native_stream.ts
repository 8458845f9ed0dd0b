// A stream the browser plays by itself: HLS in Safari, or the film file where there are no streams. Which rung plays is the
// browser's own affair then.

import { languageName } from '../common/text';
import { OFF, type Choice, type Facts, type Listener, type Stream } from './stream';

/** Safari's; others do not have it. */
interface AudioTracks extends EventTarget {
  readonly length: number;
  [index: number]: { enabled: boolean; label: string; language: string };
}
type SafariVideo = HTMLVideoElement & { audioTracks?: AudioTracks };

export class NativeStream implements Stream {
  readonly #video: SafariVideo;
  readonly #name: string;

  constructor(video: HTMLVideoElement, source: string, name: string, listener: Listener) {
    this.#video = video;
    this.#name = name;
    video.addEventListener('error', () => listener.failed('This browser cannot play this film.'));
    for (const tracks of [video.textTracks, this.#video.audioTracks]) {
      for (const event of ['addtrack', 'removetrack', 'change']) tracks?.addEventListener(event, () => listener.changed());
    }
    video.src = source;
  }

  qualities = (): Choice[] => [];
  quality = (): number => 0;
  chooseQuality(): void {}

  audios = (): Choice[] =>
    Array.from(this.#video.audioTracks ?? [], (track, id) => ({
      id,
      label: track.label || languageName(track.language) || `Track ${id + 1}`,
    }));
  audio = (): number => Array.from(this.#video.audioTracks ?? []).findIndex((track) => track.enabled);
  chooseAudio(chosen: number): void {
    Array.from(this.#video.audioTracks ?? []).forEach((track, id) => (track.enabled = id === chosen));
  }

  subtitles = (): Choice[] =>
    Array.from(this.#video.textTracks, (track, id) => ({
      id,
      label: track.label || languageName(track.language) || `Subtitles ${id + 1}`,
    }));
  subtitle = (): number => Array.from(this.#video.textTracks).findIndex((track) => track.mode === 'showing') ?? OFF;
  chooseSubtitle(chosen: number): void {
    Array.from(this.#video.textTracks).forEach((track, id) => (track.mode = id === chosen ? 'showing' : 'disabled'));
  }

  facts = (): Partial<Facts> => ({ player: this.#name });
  previewSource = (): undefined => undefined;
}
