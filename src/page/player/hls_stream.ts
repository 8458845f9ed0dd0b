// A stream played by hls.js: rungs chosen by it or by the viewer, a buffer that follows the bandwidth, and patience with the network.

import Hls, { Events, ErrorDetails, ErrorTypes, type ErrorData, type FragLoadedData, type HlsConfig } from 'hls.js';
import { languageName } from '../common/text';
import { isWatched, tell } from '../common/register';
import { BYTES_MAX, BYTES_MAX_PHONE, bufferTarget } from './buffer_target';
import { levelChoices, levelName, startLevel } from './levels';
import { AUTO, OFF, type Choice, type Facts, type Listener, type Stream } from './stream';

/** A film nobody watched yet begins with the rung that is made soonest; better ones follow within seconds. */
const FIRST_HEIGHT = 360;
/** Beyond this much spare bandwidth the worker fetches on, past what fits in the player's buffer. */
const SPARE = 3;
const AHEAD_SEGMENTS = 30;
const RECOVERIES_MAX = 3;
const ASK_AGAIN_MS = 3000;

/** Errors of the network and of a busy server pass; a 404 does not. */
const patient = (times: number) => ({
  maxNumRetry: times,
  retryDelayMs: 500,
  maxRetryDelayMs: 8000,
  shouldRetry: (_: unknown, count: number, timeout: boolean, answer: { code?: number } | undefined): boolean =>
    count < times && (timeout || answer?.code === undefined || answer.code === 0 || answer.code >= 500),
});
const policy = (times: number, firstByteMs: number) => ({
  default: { maxTimeToFirstByteMs: firstByteMs, maxLoadTimeMs: 120_000, timeoutRetry: patient(4), errorRetry: patient(times) },
});

/** What an address came over, `h3`; empty where the browser does not say, as of what passed through the worker. */
function protocol(url: string): string {
  const timing = [...performance.getEntriesByName(url), ...performance.getEntriesByType('navigation')];
  return timing.map((entry) => (entry as PerformanceResourceTiming).nextHopProtocol).find((name) => name !== '') ?? '';
}

export class HlsStream implements Stream {
  readonly #hls: Hls;
  readonly #video: HTMLVideoElement;
  readonly #title: string;
  readonly #listener: Listener;
  readonly #source: string;
  readonly #bytesMax: number;
  /** In seconds; 0 is the beginning. */
  #startAt: number;
  #recoveries = 0;
  /** As measured on the network. */
  #bandwidth = 0;
  /** Of the last segment, if it came from the worker. */
  #keptUrl = '';
  /** Asked for before the worker was there. */
  readonly #missed: string[] = [];
  #targetSeconds = 0;
  #cacheStatus = '';
  /** Of the last segment that came over the network. */
  #networkUrl = '';
  /** The rung is held while the network is away: only it has been kept. */
  #held = false;

  constructor(video: HTMLVideoElement, source: string, title: string, startAt: number, listener: Listener) {
    this.#video = video;
    this.#startAt = startAt;
    this.#title = title;
    this.#listener = listener;
    this.#source = source;
    const phone = matchMedia('(pointer: coarse)').matches;
    this.#bytesMax = phone ? BYTES_MAX_PHONE : BYTES_MAX;
    const config: Partial<HlsConfig> = {
      // Segments are fragmented MP4: there is nothing to convert, and no worker to start.
      enableWorker: false,
      capLevelToPlayerSize: true,
      autoStartLoad: false,
      backBufferLength: phone ? 30 : 90,
      renderTextTracksNatively: true,
      manifestLoadPolicy: policy(3, 20_000),
      playlistLoadPolicy: policy(8, 20_000),
      fragLoadPolicy: policy(12, 30_000),
    };
    this.#hls = new Hls(config);
    // By itself a browser remembers what 250 files came over.
    performance.setResourceTimingBufferSize(5000);
    this.#retarget();
    this.#listen();
    this.#hls.loadSource(source);
    this.#hls.attachMedia(video);
    window.addEventListener('offline', () => this.#hold());
    window.addEventListener('online', () => {
      this.#release();
      this.#hls.startLoad();
    });
  }

  #listen(): void {
    const hls = this.#hls;
    const changed = (): void => this.#listener.changed();
    hls.on(Events.MANIFEST_PARSED, () => {
      void this.#begin().then(changed);
    });
    hls.on(Events.LEVEL_SWITCHED, () => {
      this.#retarget();
      changed();
    });
    hls.on(Events.FRAG_LOADING, (_, { frag }) => isWatched() || this.#missed.push(frag.url));
    hls.on(Events.FRAG_LOADED, (_, data) => this.#loaded(data));
    hls.on(Events.FRAG_BUFFERED, (_, { frag }) => this.#measured(frag.url));
    hls.on(Events.ERROR, (_, data) => this.#error(data));
    const changes = [
      Events.AUDIO_TRACKS_UPDATED,
      Events.AUDIO_TRACK_SWITCHED,
      Events.SUBTITLE_TRACKS_UPDATED,
      Events.SUBTITLE_TRACK_SWITCH,
    ] as const;
    for (const event of changes) hls.on(event, changed);
  }

  async #begin(): Promise<void> {
    const hls = this.#hls;
    hls.startLevel = await startLevel(hls.levels, FIRST_HEIGHT);
    hls.startLoad(this.#startAt > 0 ? this.#startAt : -1);
  }

  #loaded({ frag, networkDetails }: FragLoadedData): void {
    this.#listener.trouble(null);
    const answer = networkDetails as XMLHttpRequest | Response | null;
    const header = (name: string): string =>
      (answer instanceof XMLHttpRequest ? answer.getResponseHeader(name) : answer?.headers?.get(name)) ?? '';
    const kept = header('x-kept') !== '';
    this.#keptUrl = kept ? frag.url : '';
    if (frag.type !== 'main') return;
    if (!kept && this.#held) this.#release();
    this.#cacheStatus = kept ? 'kept in this browser' : header('cache-status');
    if (!kept) this.#networkUrl = frag.url;
    if (typeof frag.sn === 'number') this.#tellWorker(frag.sn);
  }

  /** What the worker had came at no line's speed: hls.js must not learn from it. */
  #measured(url: string): void {
    if (url !== this.#keptUrl) this.#bandwidth = this.#hls.bandwidthEstimate;
    else if (this.#bandwidth > 0) this.#hls.bandwidthEstimate = this.#bandwidth;
    this.#retarget();
  }

  /** Where playing is, what the worker missed, and what may be fetched beyond the buffer while there is bandwidth to spare. */
  #tellWorker(segment: number): void {
    const hls = this.#hls;
    const details = [hls.levels[hls.loadLevel]?.details, hls.audioTracks[hls.audioTrack]?.details].filter((known) => known != null);
    const needed = details.flatMap((known) => [known.url, known.fragments[0]?.initSegment?.url]);
    const saving = (navigator as { connection?: { saveData?: boolean } }).connection?.saveData === true;
    const rich = !saving && this.#bandwidth > SPARE * (hls.levels[hls.loadLevel]?.bitrate ?? Infinity);
    const last = rich ? segment + AHEAD_SEGMENTS : segment;
    const ahead = details
      .flatMap((known) => known.fragments)
      .filter(({ sn }) => typeof sn === 'number' && sn > segment && sn <= last)
      .sort((a, b) => Number(a.sn) - Number(b.sn));
    const urls = [...needed, ...this.#missed.splice(0)].filter((url) => url !== undefined);
    void tell({ type: 'at', title: this.#title, segment, urls, ahead: ahead.map(({ url }) => url) });
  }

  #retarget(): void {
    const { config, levels, loadLevel, bandwidthEstimate } = this.#hls;
    const target = bufferTarget(bandwidthEstimate, levels[loadLevel]?.bitrate ?? 0, this.#bytesMax);
    config.maxBufferLength = config.maxMaxBufferLength = this.#targetSeconds = target.seconds;
    config.maxBufferSize = target.bytes;
  }

  #error(data: ErrorData): void {
    const hls = this.#hls;
    if (!data.fatal) {
      if (data.type === ErrorTypes.NETWORK_ERROR && (data.response?.code ?? 0) === 0) this.#hold();
      return;
    }
    const first = data.details === ErrorDetails.MANIFEST_LOAD_ERROR || data.details === ErrorDetails.MANIFEST_LOAD_TIMEOUT;
    const code = data.response?.code ?? 0;
    if (data.type === ErrorTypes.NETWORK_ERROR && (code === 0 || code >= 500)) {
      this.#listener.trouble(code >= 500 ? 'The server is busy. Trying again…' : 'The network is away. Playing on as soon as it is back.');
      setTimeout(() => (first ? hls.loadSource(this.#source) : hls.startLoad()), ASK_AGAIN_MS);
    } else if (code === 404 && data.frag !== undefined && this.#recoveries < RECOVERIES_MAX) {
      // The film was replaced meanwhile: its playlists name other segments now.
      this.#recoveries += 1;
      this.#startAt = this.#video.currentTime;
      hls.loadSource(this.#source);
    } else if (data.type === ErrorTypes.MEDIA_ERROR && this.#recoveries < RECOVERIES_MAX) {
      this.#recoveries += 1;
      hls.recoverMediaError();
    } else {
      hls.destroy();
      this.#listener.failed(code === 404 ? 'No stream of this film can be made.' : `The film cannot be played (${data.details}).`);
    }
  }

  #hold(): void {
    if (this.#held || !this.#hls.autoLevelEnabled || this.#hls.currentLevel < 0) return;
    this.#held = true;
    this.#hls.loadLevel = this.#hls.currentLevel;
  }

  #release(): void {
    if (this.#held) this.#hls.loadLevel = AUTO;
    this.#held = false;
  }

  qualities = (): Choice[] => levelChoices(this.#hls.levels);
  quality = (): number => (this.#hls.autoLevelEnabled || this.#held ? AUTO : this.#hls.manualLevel);
  chooseQuality(id: number): void {
    this.#held = false;
    // `nextLevel` throws away what is ahead of the next segment; where that is not there yet (just sought), it would keep all of it.
    const segment = this.#hls.levels[this.#hls.loadLevel]?.details?.targetduration ?? Infinity;
    if (id === AUTO || this.#secondsAhead() >= 2 * segment) this.#hls.nextLevel = id;
    else this.#hls.currentLevel = id;
    this.#listener.changed();
  }

  #secondsAhead(): number {
    const media = this.#hls.media;
    if (media === null) return 0;
    const { buffered, currentTime } = media;
    const at = Array.from({ length: buffered.length }, (_, i) => i).find((i) => buffered.start(i) <= currentTime && currentTime < buffered.end(i));
    return at === undefined ? 0 : buffered.end(at) - currentTime;
  }

  audios = (): Choice[] =>
    this.#hls.audioTracks.map(({ name, lang }, id) => ({ id, label: languageName(lang) ?? (name || `Track ${id + 1}`) }));
  audio = (): number => this.#hls.audioTrack;
  chooseAudio(id: number): void {
    this.#hls.audioTrack = id;
  }

  subtitles = (): Choice[] =>
    this.#hls.subtitleTracks.map(({ name, lang }, id) => ({ id, label: name || languageName(lang) || `Subtitles ${id + 1}` }));
  subtitle = (): number => (this.#hls.subtitleDisplay ? this.#hls.subtitleTrack : OFF);
  chooseSubtitle(id: number): void {
    this.#hls.subtitleDisplay = id !== OFF;
    this.#hls.subtitleTrack = id;
    this.#listener.changed();
  }

  facts(): Facts {
    const level = this.#hls.levels[this.#hls.currentLevel];
    return {
      player: `hls.js ${Hls.version}`,
      rung: levelName(level),
      bitrate: level?.bitrate ?? 0,
      bandwidth: this.#hls.bandwidthEstimate,
      targetSeconds: this.#targetSeconds,
      cacheStatus: this.#cacheStatus,
      protocol: protocol(this.#networkUrl),
    };
  }

  previewSource = (): string | undefined => this.#hls.levels[0]?.url[0];
}
