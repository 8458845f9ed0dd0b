// The statistics over the picture: what plays, how well, and where it came from.

import { make, the } from '../common/dom';
import { rate } from '../common/text';
import { described, type LeftOut } from './left_out';
import type { Stream } from './stream';

const EVERY_MS = 500;

export class Statistics {
  readonly #panel = the('statistics', HTMLElement);
  readonly #list = the('facts', HTMLElement);
  readonly #video: HTMLVideoElement;
  #timer = 0;
  unshown: LeftOut[] = [];

  constructor(video: HTMLVideoElement) {
    this.#video = video;
  }

  toggle(stream: Stream | undefined): void {
    this.#panel.hidden = !this.#panel.hidden;
    clearInterval(this.#timer);
    if (this.#panel.hidden) return;
    this.#show(stream);
    this.#timer = window.setInterval(() => this.#show(stream), EVERY_MS);
  }

  #show(stream: Stream | undefined): void {
    const facts = stream?.facts() ?? {};
    const { videoWidth, videoHeight } = this.#video;
    const { droppedVideoFrames, totalVideoFrames } = this.#video.getVideoPlaybackQuality();
    const rows: [string, string, string | undefined][] = [
      ['rung', 'Quality', facts.rung === undefined ? `${videoWidth}×${videoHeight}` : `${facts.rung}, ${rate(facts.bitrate ?? 0)}`],
      ['bandwidth', 'Bandwidth', facts.bandwidth === undefined ? undefined : rate(facts.bandwidth)],
      ['buffer', 'Buffer', `${this.#ahead().toFixed(1)} s${facts.targetSeconds === undefined ? '' : ` of ${facts.targetSeconds.toFixed(0)} s`}`],
      ['dropped', 'Dropped frames', `${droppedVideoFrames} of ${totalVideoFrames}`],
      ['cache', 'Last segment', facts.cacheStatus || undefined],
      ['protocol', 'Protocol', facts.protocol || undefined],
      ['player', 'Player', facts.player],
      ['unshown', 'Not shown', described(this.unshown)],
    ];
    const shown = rows.flatMap(([name, label, value]) => {
      if (value === undefined) return [];
      const fact = make('dd', '', value);
      fact.dataset['fact'] = name;
      return [make('dt', '', label), fact];
    });
    this.#list.replaceChildren(...shown);
  }

  #ahead(): number {
    const { buffered, currentTime } = this.#video;
    for (let i = 0; i < buffered.length; i += 1) {
      if (buffered.start(i) <= currentTime + 0.1 && currentTime <= buffered.end(i)) return buffered.end(i) - currentTime;
    }
    return 0;
  }
}
