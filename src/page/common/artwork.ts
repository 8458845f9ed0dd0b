// A title's picture: its poster, or one drawn from its name where it has none.

import { posterAddress } from './addresses';
import { make } from './dom';

/** Of those the server makes, the ones a card of the grid may need, on any screen. */
const WIDTHS = [160, 320, 480, 640, 960];
/** How wide a card is, as its style says. */
const SIZES = '(max-width: 30rem) 46vw, 16rem';

/** A number from a text, the same each time (FNV-1a, 32 bits). */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return value >>> 0;
}

/** Up to two letters that stand for a name; a number stays whole. */
export function initials(name: string): string {
  const words = name.match(/[\p{L}\p{N}]+/gu) ?? [];
  return words
    .filter((word) => !/^(the|a|an|der|die|das|le|la|les)$/iu.test(word) || words.length === 1)
    .slice(0, 2)
    .map((word) => /^\d{1,4}/.exec(word)?.[0] ?? [...word][0]?.toUpperCase() ?? '')
    .join('');
}

export function artwork(id: string, name: string): HTMLElement {
  const hue = hash(name) % 360;
  const art = make('div', 'art', make('span', 'art-initials', initials(name)));
  art.style.setProperty('--hue', String(hue));
  const poster = make('img', 'art-poster');
  poster.alt = '';
  poster.loading = 'lazy';
  poster.decoding = 'async';
  poster.addEventListener('load', () => poster.classList.add('is-there'));
  poster.addEventListener('error', () => poster.remove());
  poster.sizes = SIZES;
  poster.srcset = WIDTHS.map((width) => `${posterAddress(id, width)} ${width}w`).join(', ');
  poster.src = posterAddress(id, 480);
  art.append(poster);
  return art;
}
