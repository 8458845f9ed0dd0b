// Fingers and pointers on the picture: a tap shows or hides the controls, a second one on the same side seeks; a mouse's click plays
// or pauses, its double click fills the screen.

export interface Gestures {
  /** The seconds add up while one goes on tapping. */
  skip(seconds: number): void;
  toggleControls(): void;
  togglePlay(): void;
  toggleFullscreen(): void;
}

const DOUBLE_MS = 300;
const SKIP_S = 10;

/** -1 for the left third of a width, 1 for the right, 0 between. */
export const side = (x: number, width: number): -1 | 0 | 1 => (x < width / 3 ? -1 : x > (width * 2) / 3 ? 1 : 0);

export function onGestures(surface: HTMLElement, gestures: Gestures): void {
  let last = { ms: -Infinity, side: 0 };
  let waiting = 0;
  surface.addEventListener('pointerup', (event) => {
    if (event.button !== 0) return;
    if (event.pointerType === 'mouse') {
      // `detail` of a click counts its repetitions; of a pointer it does not.
      clearTimeout(waiting);
      const again = event.timeStamp - last.ms < DOUBLE_MS;
      last = { ms: again ? -Infinity : event.timeStamp, side: 0 };
      gestures.togglePlay();
      if (again) gestures.toggleFullscreen();
      return;
    }
    const box = surface.getBoundingClientRect();
    const where = side(event.clientX - box.left, box.width);
    const again = event.timeStamp - last.ms < DOUBLE_MS && where === last.side && where !== 0;
    last = { ms: event.timeStamp, side: where };
    clearTimeout(waiting);
    if (again) gestures.skip(where * SKIP_S);
    else waiting = window.setTimeout(() => gestures.toggleControls(), where === 0 ? 0 : DOUBLE_MS);
  });
}
