// What the phone's lock screen and the keyboard's media keys show and do.

import { posterAddress } from '../common/addresses';

export function mediaSession(video: HTMLVideoElement, id: string, name: string, skip: (seconds: number) => void): void {
  if (!('mediaSession' in navigator)) return;
  const session = navigator.mediaSession;
  session.metadata = new MediaMetadata({ title: name, artwork: [{ src: posterAddress(id) }] });
  const actions: [MediaSessionAction, MediaSessionActionHandler][] = [
    ['play', () => void video.play()],
    ['pause', () => video.pause()],
    ['seekbackward', ({ seekOffset }) => skip(-(seekOffset ?? 10))],
    ['seekforward', ({ seekOffset }) => skip(seekOffset ?? 10)],
    ['seekto', ({ seekTime }) => (video.currentTime = seekTime ?? video.currentTime)],
  ];
  for (const [action, handler] of actions) {
    try {
      session.setActionHandler(action, handler);
    } catch {
      // An action this browser does not know.
    }
  }
  const place = (): void => {
    if (!Number.isFinite(video.duration) || video.duration <= 0) return;
    session.setPositionState({ duration: video.duration, position: Math.min(video.currentTime, video.duration), playbackRate: video.playbackRate });
  };
  for (const event of ['durationchange', 'seeked', 'play', 'pause']) video.addEventListener(event, place);
}
