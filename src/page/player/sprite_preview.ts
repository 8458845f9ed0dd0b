// Pictures of the place pointed at, from the title's sheets of small pictures. The list is fetched with the first look, a sheet when
// the pointer rests on it: on a film that nobody has looked into, the server makes it then. Where there is no list (a folder with
// HLS of its own, a film that is only played as it is), what can do without is asked.

import { parsed, tileAt, type Tile } from './sprites';

/** What shows a picture of a place. */
export interface Preview {
  look(seconds: number, duration: number): void;
  leave(): void;
}

/** Each is some megabytes once it is decoded. */
const SHEETS_MAX = 6;
/** Passing over a sheet is no wish to see it. */
const REST_MS = 120;

export class SpritePreview implements Preview {
  readonly #list: string;
  readonly #canvas: HTMLCanvasElement;
  readonly #otherwise: () => Preview | undefined;
  readonly #sheets = new Map<string, HTMLImageElement>();
  #tiles: Tile[] | undefined;
  #began = false;
  #other: Preview | undefined;
  #wanted: { seconds: number; duration: number } | undefined;
  #loading = false;
  #timer = 0;

  constructor(list: string, canvas: HTMLCanvasElement, otherwise: () => Preview | undefined) {
    this.#list = list;
    this.#canvas = canvas;
    this.#otherwise = otherwise;
  }

  look(seconds: number, duration: number): void {
    this.#wanted = { seconds, duration };
    if (this.#tiles === undefined) return void this.#begin();
    if (this.#tiles.length === 0) {
      this.#other ??= this.#otherwise();
      return this.#other?.look(seconds, duration);
    }
    const tile = tileAt(this.#tiles, seconds);
    if (tile === undefined) return;
    const sheet = this.#sheets.get(tile.sheet);
    if (sheet !== undefined) return this.#draw(sheet, tile);
    this.#canvas.hidden = true;
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => void this.#load(tile.sheet), REST_MS);
  }

  leave(): void {
    this.#wanted = undefined;
    clearTimeout(this.#timer);
    this.#canvas.hidden = true;
    this.#other?.leave();
  }

  async #begin(): Promise<void> {
    if (this.#began) return;
    this.#began = true;
    try {
      const answer = await fetch(this.#list);
      // Busy, or away: the next look asks again.
      if (answer.status >= 500) throw new Error(String(answer.status));
      this.#tiles = answer.ok ? parsed(await answer.text(), this.#list) : [];
    } catch {
      this.#began = false;
      return;
    }
    this.#again();
  }

  /** One at a time: what was passed over meanwhile is not fetched. */
  async #load(address: string): Promise<void> {
    if (this.#loading || this.#sheets.has(address)) return;
    this.#loading = true;
    const sheet = new Image();
    sheet.src = address;
    try {
      await sheet.decode();
      this.#sheets.set(address, sheet);
      const oldest = this.#sheets.keys().next().value;
      if (this.#sheets.size > SHEETS_MAX && oldest !== undefined) this.#sheets.delete(oldest);
    } catch {
      // Without a picture there is still the time.
      this.#wanted = undefined;
    }
    this.#loading = false;
    this.#again();
  }

  #again(): void {
    if (this.#wanted !== undefined) this.look(this.#wanted.seconds, this.#wanted.duration);
  }

  #draw(sheet: HTMLImageElement, { x, y, width, height }: Tile): void {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#canvas.getContext('2d')?.drawImage(sheet, x, y, width, height, 0, 0, width, height);
    this.#canvas.hidden = false;
  }
}
