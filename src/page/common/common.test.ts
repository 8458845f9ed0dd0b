import { describe, expect, it } from 'vitest';
import { sorted } from '../library/titles';
import { titlesAddress, watchedTitle } from './addresses';
import { hash, initials } from './artwork';
import { continued, parsed, resumeAt, withProgress, type Progress } from './progress';
import { clock, languageName, length, rate } from './text';

const progress = (at: number, of = 100, when = 0): Progress => ({ name: 'A film', at, of, when });

describe('resuming', () => {
  it('begins again where little was seen, or all', () => {
    expect([3, 50, 96].map((at) => resumeAt(progress(at)))).toEqual([0, 50, 0]);
    expect(resumeAt(undefined)).toBe(0);
  });

  it('offers the latest first', () => {
    const watched = { a: progress(50, 100, 1), b: progress(50, 100, 2), c: progress(99, 100, 3) };
    expect(continued(watched).map(([id]) => id)).toEqual(['b', 'a']);
  });

  it('forgets the oldest beyond its bound', () => {
    let watched = {};
    for (let i = 0; i < 250; i += 1) watched = withProgress(watched, `t${i}`, progress(50, 100, i));
    expect(Object.keys(watched)).toHaveLength(200);
    expect(watched).not.toHaveProperty('t49');
    expect(watched).toHaveProperty('t249');
  });

  it('takes only what has the right shape from storage', () => {
    const good = progress(1);
    expect(parsed(JSON.stringify({ good, bad: { at: 'x' }, none: null }))).toEqual({ good });
    for (const broken of [null, '', '[', 'null', '3', '"x"']) expect(parsed(broken)).toEqual({});
  });
});

describe('what people read', () => {
  it('is a clock, a length and a rate', () => {
    expect([59.9, 61, 3723, NaN].map(clock)).toEqual(['0:59', '1:01', '1:02:03', '–:––']);
    expect([40, 180, 6120].map(length)).toEqual(['40 s', '3 min', '1 h 42 min']);
    expect([2.5e6, 64e4, 0].map(rate)).toEqual(['2.5 Mbit/s', '640 kbit/s', '–']);
  });

  it('names a language, or says nothing', () => {
    expect([undefined, 'und', ''].map(languageName)).toEqual([undefined, undefined, undefined]);
    expect(languageName('not a code')).toBe('not a code');
  });

  it('draws a title’s picture from its name, the same each time', () => {
    expect(hash('Film')).toBe(hash('Film'));
    expect(['The quiet sea', 'Weg', '  ', '10 cars'].map(initials)).toEqual(['QS', 'W', '', '10C']);
  });
});

describe('the list', () => {
  it('is sorted as people sort, unknown lengths last', () => {
    const titles = [{ id: 'x', name: 'Film 10' }, { id: 'y', name: 'film 2', duration_s: 5 }, { id: 'z', name: 'A', duration_s: 9 }];
    const ids = (order: Parameters<typeof sorted>[1]) => sorted(titles, order).map(({ id }) => id).join('');
    expect([ids('name'), ids('longest'), ids('shortest')]).toEqual(['zyx', 'zyx', 'yzx']);
  });
});

it('addresses lie below the site’s root', () => {
  expect(titlesAddress('a&b')).toMatch(/\/titles\.json\?q=a%26b$/);
  expect(watchedTitle('/films/watch/ab-c_1')).toBe('ab-c_1');
});
