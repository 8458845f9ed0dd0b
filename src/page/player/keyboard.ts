// Keys → commands. Pure but for the listener at the end.

export type Command =
  | { do: 'toggle' | 'mute' | 'fullscreen' | 'captions' | 'statistics' | 'help' | 'pip' | 'close' }
  | { do: 'skip'; seconds: number }
  | { do: 'volume'; by: number }
  | { do: 'share'; of: number }
  | { do: 'frame'; by: number };

type Key = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>;

export function command({ key, ctrlKey, metaKey, altKey }: Key): Command | undefined {
  if (ctrlKey || metaKey || altKey) return undefined;
  if (/^[0-9]$/.test(key)) return { do: 'share', of: Number(key) / 10 };
  switch (key.length === 1 ? key.toLowerCase() : key) {
    case ' ':
    case 'k':
      return { do: 'toggle' };
    case 'j':
      return { do: 'skip', seconds: -10 };
    case 'l':
      return { do: 'skip', seconds: 10 };
    case 'ArrowLeft':
      return { do: 'skip', seconds: -5 };
    case 'ArrowRight':
      return { do: 'skip', seconds: 5 };
    case 'ArrowUp':
      return { do: 'volume', by: 0.1 };
    case 'ArrowDown':
      return { do: 'volume', by: -0.1 };
    case ',':
      return { do: 'frame', by: -1 };
    case '.':
      return { do: 'frame', by: 1 };
    case 'f':
      return { do: 'fullscreen' };
    case 'm':
      return { do: 'mute' };
    case 'c':
      return { do: 'captions' };
    case 'p':
      return { do: 'pip' };
    case 'i':
      return { do: 'statistics' };
    case '?':
      return { do: 'help' };
    case 'Escape':
      return { do: 'close' };
    default:
      return undefined;
  }
}

/** Space and arrows belong to the control that has the focus, where it knows them. */
export function belongsToControl(key: string, target: EventTarget | null): boolean {
  if (!(target instanceof Element)) return false;
  if (target.closest('[role="menu"], dialog[open]') !== null) return key !== 'Escape' && key !== '?';
  if (target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement) return key === ' ' || key === 'Enter';
  return target instanceof HTMLInputElement && target.id === 'volume' && key.startsWith('Arrow');
}

export function onCommand(run: (command: Command) => void): void {
  document.addEventListener('keydown', (event) => {
    if (belongsToControl(event.key, event.target)) return;
    const asked = command(event);
    if (asked === undefined) return;
    event.preventDefault();
    run(asked);
  });
}
