// Which codec to play, where a title has several: pure.

/** What is known of a level: of hls.js, and of the browser. */
export interface Candidate {
  height: number;
  bitrate: number;
  /** As in the playlist: `av01.0.05M.08`. */
  codec: string | undefined;
}

/** From the one that needs the fewest bits for the same picture. */
export const FAMILIES = ['AV1', 'HEVC', 'H.264'] as const;
export type Family = (typeof FAMILIES)[number];

export function family(codec: string | undefined): Family {
  if (codec?.startsWith('av01') === true) return 'AV1';
  return /^(hvc1|hev1)/.test(codec ?? '') ? 'HEVC' : 'H.264';
}

/** The best that plays smoothly; H.264, or what there is, where none is known to. */
export function bestFamily(candidates: readonly Candidate[], smooth: ReadonlySet<Family>): Family {
  const there = FAMILIES.filter((name) => candidates.some(({ codec }) => family(codec) === name));
  return there.find((name) => smooth.has(name)) ?? there.at(-1) ?? 'H.264';
}

/** The level to begin with: of a family the highest that is at most so high; its lowest where none is. */
export function firstLevel(candidates: readonly Candidate[], best: Family, heightMax: number): number {
  const own = candidates.map((candidate, id) => ({ ...candidate, id })).filter(({ codec }) => family(codec) === best);
  own.sort((a, b) => a.height - b.height || a.bitrate - b.bitrate);
  return (own.findLast(({ height }) => height <= heightMax) ?? own[0])?.id ?? 0;
}

/** Levels as a menu shows them: by codec, the best first, then by size, the largest first. */
export function inMenu(candidates: readonly Candidate[]): { id: number; family: Family | undefined }[] {
  const all = candidates.map(({ height, bitrate, codec }, id) => ({ id, height, bitrate, family: family(codec) }));
  const several = new Set(all.map((level) => level.family)).size > 1;
  all.sort((a, b) => FAMILIES.indexOf(a.family) - FAMILIES.indexOf(b.family) || b.height - a.height || b.bitrate - a.bitrate);
  return all.map((level) => ({ id: level.id, family: several ? level.family : undefined }));
}
