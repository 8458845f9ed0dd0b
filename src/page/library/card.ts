// One title of the grid.

import { watchAddress } from '../common/addresses';
import { artwork } from '../common/artwork';
import { make } from '../common/dom';
import type { Progress } from '../common/progress';
import { isSeen } from '../common/progress';
import { facts, type Title } from './titles';

export function card(title: Title, progress?: Progress): HTMLElement {
  const art = artwork(title.id, title.name);
  if (progress !== undefined && progress.of > 0) {
    const share = isSeen(progress) ? 1 : progress.at / progress.of;
    const bar = make('div', 'art-progress');
    bar.style.setProperty('--share', String(Math.min(share, 1)));
    art.append(bar);
  }
  const link = make('a', 'card', art, make('span', 'card-name', title.name), make('span', 'card-facts', facts(title).join(' · ')));
  if (title.broken != null) link.title = title.broken;
  link.href = watchAddress(title.id);
  return make('li', '', link);
}
