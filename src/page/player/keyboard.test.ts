import { expect, it } from 'vitest';
import { command } from './keyboard';
import { side } from './touch';

const press = (key: string, held: Partial<KeyboardEvent> = {}): unknown =>
  command({ key, ctrlKey: false, metaKey: false, altKey: false, ...held });

it('knows its keys, in either case', () => {
  expect(press(' ')).toEqual(press('K'));
  expect(press('j')).toEqual({ do: 'skip', seconds: -10 });
  expect(press('7')).toEqual({ do: 'share', of: 0.7 });
  expect(press('0')).toEqual({ do: 'share', of: 0 });
  expect(press('?')).toEqual({ do: 'help' });
});

it('leaves the browser its own keys', () => {
  for (const held of [{ ctrlKey: true }, { metaKey: true }, { altKey: true }]) expect(press('f', held)).toBeUndefined();
  for (const key of ['Tab', 'Enter', 'F5', 'x']) expect(press(key)).toBeUndefined();
});

it('splits the picture in thirds', () => {
  expect([10, 50, 90].map((x) => side(x, 100))).toEqual([-1, 0, 1]);
});
