// The list of titles, as the library gives it.

import { titlesAddress } from '../common/addresses';
import { length, pictureName } from '../common/text';

export interface Title {
  id: string;
  name: string;
  duration_s?: number | null;
  bytes?: number | null;
  width?: number | null;
  height?: number | null;
  /** Why it cannot be streamed. */
  broken?: string | null;
}

/** What is said of a title below its name. */
export function facts(title: Title): string[] {
  if (title.broken != null) return ['cannot be streamed'];
  return [
    title.duration_s != null ? length(title.duration_s) : '',
    title.height != null ? pictureName(title.height) : '',
  ].filter((fact) => fact !== '');
}

export type Order = 'name' | 'longest' | 'shortest' | 'sharpest';

/** Known values first, in the order asked for; names decide between equals, as people sort them (`2` before `10`). */
export function sorted(titles: Title[], order: Order): Title[] {
  const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
  const value = (title: Title): number => {
    if (order === 'longest') return -(title.duration_s ?? 0);
    if (order === 'shortest') return title.duration_s ?? Infinity;
    return order === 'sharpest' ? -(title.height ?? 0) : 0;
  };
  const compare = (a: number, b: number): number => (a === b ? 0 : a - b);
  return [...titles].sort((a, b) => compare(value(a), value(b)) || names.compare(a.name, b.name));
}

/** Rejects with words for the reader. `Retry-After` of a library that is still being read is kept to. */
export async function fetchTitles(query: string, signal: AbortSignal): Promise<Title[]> {
  for (;;) {
    const answer = await fetch(titlesAddress(query), { signal });
    if (answer.ok) return ((await answer.json()) as { titles: Title[] }).titles;
    if (answer.status !== 503) throw new Error(`The library answered ${answer.status}.`);
    const seconds = Math.min(Number(answer.headers.get('retry-after')) || 5, 30);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    signal.throwIfAborted();
  }
}
