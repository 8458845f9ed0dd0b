// What the controls know of a stream, however it is played.

/** One line of a menu. `id` is the stream's own. */
export interface Choice {
  id: number;
  label: string;
}

/** Of quality: the stream chooses. Of subtitles: none. */
export const AUTO = -1;
export const OFF = -1;

export interface Facts {
  player: string;
  rung: string;
  bitrate: number;
  bandwidth: number;
  targetSeconds: number;
  /** Of the last segment. */
  cacheStatus: string;
  protocol: string;
}

export interface Stream {
  qualities(): Choice[];
  quality(): number;
  chooseQuality(id: number): void;
  audios(): Choice[];
  audio(): number;
  chooseAudio(id: number): void;
  subtitles(): Choice[];
  subtitle(): number;
  chooseSubtitle(id: number): void;
  facts(): Partial<Facts>;
  /** Of the smallest pictures there are, for previews; undefined where there is none. */
  previewSource(): string | undefined;
}

/** What a stream says to the player. */
export interface Listener {
  /** Menus or what is chosen in them changed. */
  changed(): void;
  /** Playing waits for something: words for the viewer, or null where it goes on. */
  trouble(words: string | null): void;
  /** Nothing more can be done. */
  failed(words: string): void;
}
