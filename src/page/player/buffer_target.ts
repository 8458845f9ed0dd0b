// How much to hold ahead. Pure.
//
// A link that brings much more than the picture needs may hold much: what a moment of downloading brings covers a long gap, at
// little cost. On a tight link the target matters less, for it is rarely reached; there it must only not be too small. So the
// target is what `DOWNLOADING_S` of the measured bandwidth brings, within bounds of time and of the browser's memory.

const DOWNLOADING_S = 20;
const SECONDS_MIN = 30;
const SECONDS_MAX = 180;
/** Browsers refuse more than about 150 MB of video in a source buffer, and phones less. */
export const BYTES_MAX = 100_000_000;
export const BYTES_MAX_PHONE = 40_000_000;
/** A segment is about four seconds: fewer than three ahead would stall at the first hiccup. */
const SECONDS_LEAST = 12;

export interface BufferTarget {
  seconds: number;
  bytes: number;
}

/** Of what was measured and what the rung needs, both in bit/s. Unknown values give the smallest usual target. */
export function bufferTarget(bandwidth: number, bitrate: number, bytesMax: number): BufferTarget {
  const known = bandwidth > 0 && bitrate > 0 && Number.isFinite(bandwidth) && Number.isFinite(bitrate);
  const wished = known ? Math.min(Math.max((DOWNLOADING_S * bandwidth) / bitrate, SECONDS_MIN), SECONDS_MAX) : SECONDS_MIN;
  if (!(bitrate > 0 && Number.isFinite(bitrate))) return { seconds: wished, bytes: bytesMax };
  const fitting = (bytesMax * 8) / bitrate;
  const seconds = Math.max(Math.min(wished, fitting), SECONDS_LEAST);
  return { seconds, bytes: Math.min(Math.ceil((seconds * bitrate) / 8), bytesMax) };
}
