// Where the small pictures of a title lie: a WebVTT list whose cues name a sheet and a place on it (`#xywh=`). Pure.

export interface Tile {
  /** Seconds: from here to the next one. */
  from: number;
  sheet: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A list has one for ten seconds: this is more than a week. */
const TILES_MAX = 100_000;

/** `01:02:03.004` or `02:03.004`. */
function seconds(clock: string): number {
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
}

/** Cues that cannot be read are left out; addresses are relative to the list's. */
export function parsed(list: string, base: string): Tile[] {
  const tiles: Tile[] = [];
  for (const block of list.split(/\r?\n\r?\n/).slice(0, TILES_MAX)) {
    const [times, address] = block.trim().split(/\r?\n/).slice(-2);
    const from = seconds(/^([\d:.]+) --> /.exec(times ?? '')?.[1] ?? '-');
    const place = /#xywh=(\d+),(\d+),(\d+),(\d+)$/.exec(address ?? '');
    if (!Number.isFinite(from) || place === null || address === undefined) continue;
    const [x = 0, y = 0, width = 0, height = 0] = place.slice(1).map(Number);
    if (width === 0 || height === 0) continue;
    tiles.push({ from, sheet: new URL(address.slice(0, place.index), base).href, x, y, width, height });
  }
  return tiles;
}

/** The last one that begins by then. */
export function tileAt(tiles: readonly Tile[], at: number): Tile | undefined {
  let [low, high] = [0, tiles.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tiles[middle]?.from ?? Infinity) <= at) low = middle + 1;
    else high = middle;
  }
  return tiles[Math.max(low - 1, 0)];
}
