// What the worker keeps, and what it lets go of. Pure: no caches, no clock.

export type Kind = 'library' | 'watch' | 'asset' | 'titles' | 'playlist' | 'segment' | 'poster' | 'other';

export interface Resource {
  kind: Kind;
  title?: string;
  /** Of a segment; initialisation segments have none. */
  segment?: number;
}

/** What lies at an address, given the folder the worker is for. The film file itself is `other`: it is too large to keep. */
export function classify(address: string, scope: string): Resource {
  const [url, folder] = [new URL(address), new URL(scope)];
  if (url.origin !== folder.origin || !url.pathname.startsWith(folder.pathname)) return { kind: 'other' };
  const path = url.pathname.slice(folder.pathname.length).split('/');
  const [room, title, ...rest] = path;
  if (path.length === 1 && room === '') return { kind: 'library' };
  if (path.length === 1 && room === 'titles.json') return { kind: url.search === '' ? 'titles' : 'other' };
  if (room === '_page' && path.length === 2) return { kind: 'asset' };
  if (title === undefined || title === '') return { kind: 'other' };
  if (room === 'watch' && path.length === 2) return { kind: 'watch', title };
  const file = rest.at(-1);
  if (room !== 't' || file === undefined) return { kind: 'other' };
  if (file === 'poster.jpg') return { kind: 'poster', title };
  // A list too, though it is no subtitle.
  if (/\.(m3u8|mpd)$/.test(file) || file === 'trickplay.vtt') return { kind: 'playlist', title };
  if (!/\.(m4s|mp4|m4a|m4v|ts|aac|vtt)$/.test(file)) return { kind: 'other' };
  const digits = /(\d+)\.\w+$/.exec(file)?.[1];
  return digits === undefined || /init/i.test(file) ? { kind: 'segment', title } : { kind: 'segment', title, segment: Number(digits) };
}

export interface Kept {
  url: string;
  title: string;
  segment?: number;
  bytes: number;
  /** When it was last of use, in milliseconds. */
  used: number;
}

/** Where somebody is watching. */
export interface Place {
  title: string;
  segment: number;
}

/** Of four seconds each: a minute back, five minutes on. */
export const BEHIND = 15;
export const AHEAD = 75;

/**
 * What to let go of, so that the rest fits: first segments outside the window around the place, the furthest first; then the
 * other titles, whole, the longest unused first, for half a title plays nothing; then the furthest of the window. What has no
 * number (pages, playlists, initialisation) is small, and goes with its title only.
 */
export function toDrop(kept: Kept[], place: Place | undefined, bytesMax: number): Kept[] {
  let bytes = kept.reduce((sum, entry) => sum + entry.bytes, 0);
  const drop: Kept[] = [];
  const take = (entries: Kept[]): void => {
    for (const entry of entries) {
      if (bytes <= bytesMax) return;
      bytes -= entry.bytes;
      drop.push(entry);
    }
  };
  const mine = kept.filter((entry) => entry.title === place?.title && entry.segment !== undefined);
  const offset = (entry: Kept): number => (entry.segment ?? 0) - (place?.segment ?? 0);
  const distance = (entry: Kept): number => (offset(entry) < 0 ? -offset(entry) / BEHIND : offset(entry) / AHEAD);
  const furthest = mine.sort((a, b) => distance(b) - distance(a));
  take(furthest.filter((entry) => distance(entry) > 1));
  for (const title of byLastUse(kept.filter((entry) => entry.title !== place?.title))) {
    // Whole, so not through `take`, which stops as soon as the rest fits.
    if (bytes > bytesMax) title.forEach((entry) => drop.push(entry));
    bytes -= bytes > bytesMax ? title.reduce((sum, entry) => sum + entry.bytes, 0) : 0;
  }
  take(furthest.filter((entry) => distance(entry) <= 1));
  return drop;
}

/** The entries of each title, the longest unused title first. */
function byLastUse(kept: Kept[]): Kept[][] {
  const titles = new Map<string, Kept[]>();
  for (const entry of kept) titles.set(entry.title, [...(titles.get(entry.title) ?? []), entry]);
  const last = (entries: Kept[]): number => Math.max(...entries.map(({ used }) => used));
  return [...titles.values()].sort((a, b) => last(a) - last(b));
}
