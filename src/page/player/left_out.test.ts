import { expect, test } from 'vitest';
import { described, leftOut, withoutSubtitles } from './left_out';

test('tracks that are left out are read, and what is none is not', () => {
  const pictures = { kind: 'text', language: 'fre', reason: 'it cannot be shown as text: hdmv_pgs_subtitle are pictures', more: 1 };
  expect(leftOut({ left_out: [pictures, { kind: 'text' }, null, 7] })).toEqual([pictures]);
  for (const details of [null, 7, {}, { left_out: 'x' }]) expect(leftOut(details)).toEqual([]);
  expect(described([pictures])).toBe('subtitles (fre): it cannot be shown as text: hdmv_pgs_subtitle are pictures');
  expect(described([])).toBeUndefined();
  expect(withoutSubtitles([pictures])).toBe('No subtitles that can be shown as text');
  expect(withoutSubtitles([{ ...pictures, kind: 'audio' }])).toBe('No subtitles');
});
