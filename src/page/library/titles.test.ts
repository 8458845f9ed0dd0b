import { describe, expect, it } from 'vitest';
import { facts } from './titles';

describe('facts of a title', () => {
  const title = { id: 'a', name: 'A', duration_s: 24, height: 720 };
  it('are its length and its picture, as far as they are known', () => {
    expect(facts(title)).toEqual(['24 s', '720p']);
    expect(facts({ id: 'a', name: 'A', duration_s: null })).toEqual([]);
  });
  it('tell that it cannot be streamed', () => {
    expect(facts({ ...title, broken: 'film: Invalid data' })).toEqual(['cannot be streamed']);
  });
});
