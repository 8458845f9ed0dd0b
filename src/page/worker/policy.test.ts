import { describe, expect, it } from 'vitest';
import { AHEAD, BEHIND, classify, toDrop, type Kept } from './policy';

const SCOPE = 'https://films.example/house/';
const at = (path: string) => classify(new URL(path, SCOPE).href, SCOPE);
const kept = (title: string, segment: number | undefined, used = 0, bytes = 10): Kept => {
  const entry = { url: `${title}/${segment}`, title, bytes, used };
  return segment === undefined ? entry : { ...entry, segment };
};
const names = (entries: Kept[]): string[] => entries.map(({ url }) => url);

describe('what lies at an address', () => {
  it('is known by its path below the worker’s folder', () => {
    expect(at('.')).toEqual({ kind: 'library' });
    expect(at('?q=x')).toEqual({ kind: 'library' });
    expect(at('watch/f1')).toEqual({ kind: 'watch', title: 'f1' });
    expect(at('_page/a.js')).toEqual({ kind: 'asset' });
    expect(at('titles.json')).toEqual({ kind: 'titles' });
    expect(at('t/f1/master.m3u8')).toEqual({ kind: 'playlist', title: 'f1' });
    expect(at('t/f1/360p/index.m3u8')).toEqual({ kind: 'playlist', title: 'f1' });
    expect(at('t/f1/360p/0123abcd/17.m4s')).toEqual({ kind: 'segment', title: 'f1', segment: 17 });
    expect(at('t/f1/720p/00004.m4s')).toEqual({ kind: 'segment', title: 'f1', segment: 4 });
    expect(at('t/f1/360p/0123abcd/init.mp4')).toEqual({ kind: 'segment', title: 'f1' });
    expect(at('t/f1/poster.jpg')).toEqual({ kind: 'poster', title: 'f1' });
    expect(at('t/f1/poster.jpg?width=320')).toEqual({ kind: 'poster', title: 'f1' });
    expect(at('t/f1/trickplay.vtt')).toEqual({ kind: 'playlist', title: 'f1' });
    expect(at('t/f1/trickplay/0123abcd/2.jpg')).toEqual({ kind: 'other' });
  });

  it('is nothing of ours elsewhere, and the film file is too large', () => {
    for (const path of ['../t/f1/master.m3u8', 'https://other.example/house/', 't/f1/file', 'watch/', 'titles.json?q=x', 'sw.js']) {
      expect(at(path), path).toEqual({ kind: 'other' });
    }
  });
});

describe('what is let go of', () => {
  const place = { title: 'now', segment: 100 };

  it('is nothing while all fits', () => {
    expect(toDrop([kept('now', 1), kept('old', 2)], place, 20)).toEqual([]);
  });

  it('is first what lies outside the window, the furthest first', () => {
    const entries = [kept('now', 100 - BEHIND - 5), kept('now', 100), kept('now', 100 + AHEAD + 100), kept('old', 1)];
    expect(names(toDrop(entries, place, 30))).toEqual(['now/275']);
    expect(names(toDrop(entries, place, 20))).toEqual(['now/275', 'now/80']);
  });

  it('is then the title unused for longest, whole', () => {
    const entries = [kept('now', 100), kept('old', 1, 5), kept('old', undefined, 5), kept('older', 1, 2), kept('older', 2, 3)];
    expect(names(toDrop(entries, place, 40))).toEqual(['older/1', 'older/2']);
    expect(names(toDrop(entries, place, 10))).toEqual(['older/1', 'older/2', 'old/1', 'old/undefined']);
  });

  it('is last the window itself, so that the bound holds', () => {
    const entries = [kept('now', 99), kept('now', 100), kept('now', 130)];
    expect(names(toDrop(entries, place, 10))).toEqual(['now/130', 'now/99']);
  });

  it('is by last use where nobody watches', () => {
    expect(names(toDrop([kept('a', 1, 2), kept('b', 1, 1)], undefined, 10))).toEqual(['b/1']);
  });
});
