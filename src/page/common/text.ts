// Numbers as people read them.

/** `1:02:03`, `2:03`; unknown lengths are `–:––`. */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '–:––';
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => String(n).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** `1 h 42 min`, `3 min`, `40 s`. */
export function length(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `2.5 Mbit/s`, `640 kbit/s`. */
export function rate(bitsPerSecond: number): string {
  if (!Number.isFinite(bitsPerSecond) || bitsPerSecond <= 0) return '–';
  return bitsPerSecond >= 1e6 ? `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

/** `1080p`, `4K` for a picture's height in pixels. */
export const pictureName = (height: number): string => (height >= 2000 ? '4K' : `${height}p`);

/** `de` → `German`, in the reader's language; what is no language stays as it is. */
export function languageName(code: string | undefined): string | undefined {
  if (code === undefined || code === '' || code === 'und') return undefined;
  try {
    return new Intl.DisplayNames(undefined, { type: 'language' }).of(code);
  } catch {
    return code;
  }
}
