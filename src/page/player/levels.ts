// The levels of hls.js: with which one to begin, and how they are called.

import type { Level } from 'hls.js';
import { pictureName } from '../common/text';
import { bestFamily, family, firstLevel, inMenu, type Candidate, type Family } from './codec_choice';
import type { Choice } from './stream';

const candidates = (levels: readonly Level[]): Candidate[] =>
  levels.map(({ height, bitrate, videoCodec }) => ({ height, bitrate, codec: videoCodec }));

/** Low, in the codec that needs the fewest bits of those that play smoothly; hls.js stays with that codec by itself. */
export async function startLevel(levels: readonly Level[], heightMax: number): Promise<number> {
  const known = candidates(levels);
  return firstLevel(known, bestFamily(known, await smoothFamilies(levels)), heightMax);
}

/** For the statistics. */
export const levelName = (level: Level | undefined): string =>
  level === undefined ? '–' : `${pictureName(level.height)} (${level.width}×${level.height}), ${family(level.videoCodec)}`;

/** For the menu of qualities. */
export const levelChoices = (levels: readonly Level[]): Choice[] =>
  inMenu(candidates(levels)).map(({ id, family: codec }) => {
    const { height = 0, bitrate = 0 } = levels[id] ?? {};
    const label = height > 0 ? pictureName(height) : `${Math.round(bitrate / 1000)} kbit/s`;
    return { id, label: codec === undefined ? label : `${label} · ${codec}` };
  });

/** Codecs whose largest picture this browser says that it decodes smoothly. One alone is not asked about. */
async function smoothFamilies(levels: readonly Level[]): Promise<Set<Family>> {
  const largest = new Map<Family, Level>();
  for (const level of levels) {
    const name = family(level.videoCodec);
    if (level.height >= (largest.get(name)?.height ?? 0)) largest.set(name, level);
  }
  if (largest.size < 2) return new Set(largest.keys());
  const smooth = async ([name, { width, height, bitrate, frameRate, videoCodec }]: [Family, Level]): Promise<Family | undefined> => {
    const video = { contentType: `video/mp4; codecs="${videoCodec ?? ''}"`, width, height, bitrate, framerate: frameRate || 25 };
    const known = await navigator.mediaCapabilities?.decodingInfo({ type: 'media-source', video }).catch(() => undefined);
    return known === undefined || known.smooth ? name : undefined;
  };
  const found = await Promise.all([...largest].map(smooth));
  return new Set(found.filter((name) => name !== undefined));
}
