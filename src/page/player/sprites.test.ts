import { expect, it } from 'vitest';
import { parsed, tileAt } from './sprites';

const BASE = 'https://films.example/house/t/f1/trickplay.vtt';
const LIST = `WEBVTT

00:00:00.000 --> 00:00:10.000
trickplay/0a/0.jpg#xywh=0,0,320,180

00:00:10.000 --> 00:00:20.000
trickplay/0a/0.jpg#xywh=320,0,320,180

01:00:00.500 --> 01:00:10.500
trickplay/0a/14.jpg#xywh=0,180,320,180
`;

it('reads where each picture lies', () => {
  const tiles = parsed(LIST, BASE);
  expect(tiles.map(({ from }) => from)).toEqual([0, 10, 3600.5]);
  expect(tiles[1]).toEqual({ from: 10, sheet: 'https://films.example/house/t/f1/trickplay/0a/0.jpg', x: 320, y: 0, width: 320, height: 180 });
  expect(parsed(LIST.replaceAll('\n', '\r\n'), BASE)).toEqual(tiles);
});

it('leaves out what is no picture', () => {
  for (const list of ['', 'WEBVTT', LIST.replaceAll('#xywh', '#t'), LIST.replaceAll('320,180', '0,180'), LIST.replaceAll(' --> ', ' ')]) {
    expect(parsed(list, BASE), list).toEqual([]);
  }
});

it('finds the last picture by a time', () => {
  const tiles = parsed(LIST, BASE);
  expect([-1, 0, 9.99, 10, 3600, 3600.5, 99999].map((at) => tileAt(tiles, at)?.from)).toEqual([0, 0, 0, 10, 10, 3600.5, 3600.5]);
  expect(tileAt([], 0)).toBeUndefined();
});
