// How far each title was watched, in this browser only. Bounded: the oldest are forgotten.

export interface Progress {
  name: string;
  /** Position and length, in seconds. */
  at: number;
  of: number;
  /** When, in milliseconds since 1970. */
  when: number;
}
export type Watched = Record<string, Progress>;

const KEY = 'reelgate:watched';
const TITLES_MAX = 200;
/** Who stopped in the first seconds begins again; who stopped in the credits has seen it. */
const BEGUN_S = 5;
const SEEN = 0.95;

export const isSeen = ({ at, of }: Progress): boolean => of > 0 && at >= of * SEEN;

/** Where to go on, in seconds; 0 is the beginning. */
export const resumeAt = (progress: Progress | undefined): number =>
  progress === undefined || progress.at < BEGUN_S || isSeen(progress) ? 0 : progress.at;

/** What was begun and not seen to its end, the latest first. */
export function continued(watched: Watched): [string, Progress][] {
  const begun = Object.entries(watched).filter(([, progress]) => resumeAt(progress) > 0);
  return begun.sort(([, a], [, b]) => b.when - a.when);
}

/** `watched` with one more; the longest untouched go first. */
export function withProgress(watched: Watched, id: string, progress: Progress): Watched {
  const all = Object.entries({ ...watched, [id]: progress }).sort(([, a], [, b]) => b.when - a.when);
  return Object.fromEntries(all.slice(0, TITLES_MAX));
}

/** What is stored may be anybody's: only what has the right shape counts. */
export function parsed(text: string | null): Watched {
  try {
    const found: unknown = JSON.parse(text ?? '{}');
    if (typeof found !== 'object' || found === null) return {};
    return Object.fromEntries(Object.entries(found).filter((entry): entry is [string, Progress] => isProgress(entry[1])));
  } catch {
    return {};
  }
}

function isProgress(value: unknown): value is Progress {
  if (typeof value !== 'object' || value === null) return false;
  const { name, at, of, when } = value as Partial<Record<keyof Progress, unknown>>;
  return typeof name === 'string' && [at, of, when].every((number) => Number.isFinite(number));
}

/** Storage may be forbidden or full: then nothing is remembered, and nothing breaks. */
export function load(): Watched {
  try {
    return parsed(localStorage.getItem(KEY));
  } catch {
    return {};
  }
}

export function save(id: string, progress: Progress): void {
  store(withProgress(load(), id, progress));
}

export function forget(id: string): void {
  const { [id]: _, ...others } = load();
  store(others);
}

function store(watched: Watched): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(watched));
  } catch {
    // Nothing to do: see `load`.
  }
}
