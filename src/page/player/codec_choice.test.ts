import { expect, test } from 'vitest';
import { bestFamily, family, firstLevel, inMenu, type Family } from './codec_choice';

const levels = [
  { height: 240, bitrate: 300, codec: 'avc1.640015' },
  { height: 240, bitrate: 150, codec: 'av01.0.00M.08' },
  { height: 360, bitrate: 800, codec: 'avc1.64001E' },
  { height: 360, bitrate: 400, codec: 'av01.0.01M.08' },
  { height: 720, bitrate: 2000, codec: 'hvc1.1.6.L93.90' },
];

test('a codec is known by its name', () => {
  expect(['av01.0.00M.08', 'hev1.1', 'avc1.64', undefined].map(family)).toEqual(['AV1', 'HEVC', 'H.264', 'H.264']);
});

test('the codec that needs least is taken where it plays smoothly', () => {
  const best = (...smooth: Family[]): Family => bestFamily(levels, new Set(smooth));
  expect(best('H.264', 'AV1')).toBe('AV1');
  expect(best('H.264', 'HEVC')).toBe('HEVC');
  expect(best()).toBe('H.264');
  expect(bestFamily([], new Set())).toBe('H.264');
});

test('playing begins low, in the codec chosen', () => {
  expect(firstLevel(levels, 'AV1', 360)).toBe(3);
  expect(firstLevel(levels, 'H.264', 300)).toBe(0);
  expect(firstLevel(levels, 'HEVC', 360)).toBe(4);
  expect(firstLevel([], 'AV1', 360)).toBe(0);
});

test('a menu names codecs where there are several', () => {
  expect(inMenu(levels).map(({ id }) => id)).toEqual([3, 1, 4, 2, 0]);
  expect(inMenu(levels)[0]?.family).toBe('AV1');
  expect(inMenu(levels.slice(0, 1))).toEqual([{ id: 0, family: undefined }]);
});
