// The player: puts stream, controls, menus and keys together.

import '../styles/base.css';
import '../styles/player.css';
import Hls from 'hls.js';
import { detailsAddress, fileAddress, masterAddress, posterAddress, root, trickplayAddress, watchAddress, watchedTitle } from '../common/addresses';
import { the } from '../common/dom';
import { registerWorker, tell } from '../common/register';
import { Controls } from './controls';
import { HlsStream } from './hls_stream';
import { onCommand, type Command } from './keyboard';
import { readLeftOut, withoutSubtitles, type LeftOut } from './left_out';
import { mediaSession } from './media_session';
import { Menus } from './menus';
import { NativeStream } from './native_stream';
import { PlayerPreview } from './preview';
import { beginning, keepPlace } from './resume';
import { SeekBar } from './seek_bar';
import { SpritePreview } from './sprite_preview';
import { Statistics } from './statistics';
import { AUTO, OFF, type Choice, type Listener, type Stream } from './stream';
import { onGestures } from './touch';

const id = watchedTitle(location.pathname);
/** The edge writes the title's name into the page. */
const name = document.title;
const video = the('video', HTMLVideoElement);
const message = the('message', HTMLElement);
const help = the('help', HTMLDialogElement);

let stream: Stream | undefined;
let lastSubtitle = 0;
let unshown: LeftOut[] = [];

function say(words: string | null): void {
  message.hidden = words === null;
  message.textContent = words;
}

const listener: Listener = { changed: () => changed(), trouble: say, failed: (words) => fallBack(words) };

function open(): Stream {
  const startAt = beginning(id, location.hash);
  // Safari plays HLS itself, with AirPlay and at less cost; other browsers that say so are better off with hls.js.
  const safari = 'WebKitPlaybackTargetAvailabilityEvent' in window && video.canPlayType('application/vnd.apple.mpegurl') !== '';
  if (!safari && Hls.isSupported()) return new HlsStream(video, masterAddress(id), id, startAt, listener);
  if (startAt > 0) video.addEventListener('loadedmetadata', () => (video.currentTime = startAt), { once: true });
  return new NativeStream(video, masterAddress(id), 'the browser', listener);
}

/** The film as it is, where no stream of it can be had; once. */
function fallBack(words: string): void {
  if (stream instanceof NativeStream && video.src === fileAddress(id)) return say(words);
  say(null);
  stream = new NativeStream(video, fileAddress(id), 'the browser (the film file)', { ...listener, failed: () => say(words) });
  changed();
  void controls.play();
}

const automatic = (label: string): Choice => ({ id: AUTO, label });
const menus = new Menus([
  {
    button: 'subtitles',
    title: 'Subtitles',
    choicesMin: 2,
    choices: () => [{ id: OFF, label: 'Off' }, ...(stream?.subtitles() ?? [])],
    chosen: () => stream?.subtitle() ?? OFF,
    choose: (chosen) => chooseSubtitle(chosen),
  },
  {
    button: 'audio',
    title: 'Audio',
    choicesMin: 2,
    choices: () => stream?.audios() ?? [],
    chosen: () => stream?.audio() ?? 0,
    choose: (chosen) => stream?.chooseAudio(chosen),
  },
  {
    button: 'quality',
    title: 'Quality',
    choicesMin: 3,
    choices: () => [automatic(stream?.quality() === AUTO ? `Auto (${video.videoHeight}p)` : 'Auto'), ...(stream?.qualities() ?? [])],
    chosen: () => stream?.quality() ?? AUTO,
    choose: (chosen) => stream?.chooseQuality(chosen),
  },
]);
const controls = new Controls(video, () => menus.isOpen || help.open);
const statistics = new Statistics(video);
const tip = the('tip-picture', HTMLCanvasElement);
const preview = new SpritePreview(trickplayAddress(id), tip, () => {
  const source = stream?.previewSource();
  return source === undefined ? undefined : new PlayerPreview(source, tip);
});
new SeekBar(video, (seconds) => controls.seek(seconds), preview);

function changed(): void {
  menus.refresh();
}

function chooseSubtitle(chosen: number): void {
  if (chosen !== OFF) lastSubtitle = chosen;
  stream?.chooseSubtitle(chosen);
}

function toggleSubtitles(): void {
  const there = stream?.subtitles() ?? [];
  if (there.length === 0) return controls.note(withoutSubtitles(unshown));
  const on = stream?.subtitle() === OFF;
  chooseSubtitle(on ? (there[lastSubtitle]?.id ?? 0) : OFF);
  controls.note(on ? 'Subtitles on' : 'Subtitles off');
}

function toggleHelp(): void {
  if (help.open) help.close();
  else help.showModal();
}

function close(): void {
  if (menus.isOpen) menus.close();
  else if (!the('statistics', HTMLElement).hidden) statistics.toggle(stream);
}

function run(command: Command): void {
  switch (command.do) {
    case 'toggle':
      return controls.togglePlay();
    case 'skip':
      return controls.skip(command.seconds);
    case 'share':
      return controls.seekShare(command.of);
    case 'frame':
      return controls.frame(command.by);
    case 'volume':
      return controls.changeVolume(command.by);
    case 'mute':
      return controls.toggleMute();
    case 'fullscreen':
      return void controls.toggleFullscreen();
    case 'pip':
      return void controls.togglePip();
    case 'captions':
      return toggleSubtitles();
    case 'statistics':
      return statistics.toggle(stream);
    case 'help':
      return toggleHelp();
    case 'close':
      return close();
  }
}

the('name', HTMLElement).textContent = name;
the('home', HTMLAnchorElement).href = root.href;
the('statistics-button', HTMLButtonElement).addEventListener('click', () => statistics.toggle(stream));
the('help-button', HTMLButtonElement).addEventListener('click', toggleHelp);
the('help-close', HTMLButtonElement).addEventListener('click', toggleHelp);
// Browsers leave the focus in what has closed, where the space bar would press a button nobody sees.
help.addEventListener('close', () => help.contains(document.activeElement) && (document.activeElement as HTMLElement).blur());
onCommand(run);
onGestures(the('surface', HTMLElement), {
  skip: (seconds) => controls.skip(seconds),
  toggleControls: () => controls.toggleControls(),
  togglePlay: () => controls.togglePlay(),
  toggleFullscreen: () => void controls.toggleFullscreen(),
});
stream = open();
changed();
keepPlace(video, id, name);
mediaSession(video, id, name, (seconds) => controls.skip(seconds));
void controls.play();
// Once it plays: nothing of this may hold up the first picture.
const begun = (): void => {
  void readLeftOut(detailsAddress(id)).then((tracks) => {
    unshown = tracks;
    statistics.unshown = tracks;
  });
  registerWorker();
  void tell({ type: 'started', title: id, urls: [watchAddress(id), masterAddress(id), posterAddress(id)] });
};
video.addEventListener('playing', begun, { once: true });
