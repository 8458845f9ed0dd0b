// Tracks that a film has and nobody can be offered: subtitles that are pictures, sound that cannot be decoded. The film's details say so.

export interface LeftOut {
  kind: string;
  language: string;
  reason: string;
}

/** From `title.json`, whatever it says. */
export function leftOut(details: unknown): LeftOut[] {
  const listed = (details as { left_out?: unknown } | null)?.left_out;
  if (!Array.isArray(listed)) return [];
  return listed.filter((track): track is LeftOut => ['kind', 'language', 'reason'].every((name) => typeof track?.[name] === 'string'));
}

/** One line of words, or none. */
export function described(tracks: LeftOut[]): string | undefined {
  const lines = tracks.map(({ kind, language, reason }) => `${kind === 'text' ? 'subtitles' : 'sound'} (${language}): ${reason}`);
  return lines.length === 0 ? undefined : lines.join('; ');
}

/** What is said to who asks for subtitles where there are none. */
export const withoutSubtitles = (tracks: LeftOut[]): string =>
  tracks.some((track) => track.kind === 'text') ? 'No subtitles that can be shown as text' : 'No subtitles';

/** None where it cannot be asked: nothing depends on it. */
export async function readLeftOut(address: string): Promise<LeftOut[]> {
  try {
    const answer = await fetch(address);
    return answer.ok ? leftOut(await answer.json()) : [];
  } catch {
    return [];
  }
}
