// The library: what was begun, and all titles, searched as one types.

import '../styles/base.css';
import '../styles/library.css';
import { make, the } from '../common/dom';
import { continued, load } from '../common/progress';
import { clock } from '../common/text';
import { registerWorker } from '../common/register';
import { card } from './card';
import { fetchTitles, sorted, type Order, type Title } from './titles';

/** Cards are made as they come near: ten thousand titles would take seconds. */
const CARDS_AT_ONCE = 60;
const TYPING_PAUSE_MS = 150;

const search = the('search', HTMLInputElement);
const order = the('order', HTMLSelectElement);
const grid = the('titles', HTMLUListElement);
const count = the('count', HTMLElement);
const more = the('more', HTMLElement);
const message = the('message', HTMLElement);

let found: Title[] = [];
let shown: Title[] = [];
let asked = new AbortController();

function showMore(): void {
  const watched = load();
  const next = shown.slice(grid.childElementCount, grid.childElementCount + CARDS_AT_ONCE);
  grid.append(...next.map((title) => card(title, watched[title.id])));
  more.hidden = grid.childElementCount >= shown.length;
}

function show(): void {
  shown = sorted(found, order.value as Order);
  grid.replaceChildren();
  showMore();
  count.textContent = found.length === 1 ? '1 title' : `${found.length} titles`;
}

async function ask(): Promise<void> {
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const query = search.value.trim();
  const address = new URL(location.href);
  if (query === '') address.searchParams.delete('q');
  else address.searchParams.set('q', query);
  history.replaceState(null, '', address);
  try {
    found = await fetchTitles(query, signal);
    show();
    message.textContent = found.length > 0 ? '' : query === '' ? 'No films in the library’s folders yet.' : `No title has “${query}” in its name.`;
  } catch (error) {
    if (signal.aborted) return;
    message.textContent = `${error instanceof Error && error.message.startsWith('The library') ? error.message : 'The library cannot be reached.'} Trying again…`;
    setTimeout(() => !signal.aborted && void ask(), 5000);
  }
  message.hidden = message.textContent === '';
}

function showBegun(): void {
  const begun = continued(load()).slice(0, 12);
  const cards = begun.map(([id, progress]) => {
    const item = card({ id, name: progress.name }, progress);
    const facts = item.querySelector('.card-facts');
    if (facts !== null) facts.textContent = `${clock(progress.of - progress.at)} left`;
    return item;
  });
  the('begun-titles', HTMLUListElement).replaceChildren(...cards);
  the('begun', HTMLElement).hidden = begun.length === 0;
}

let typing = 0;
search.addEventListener('input', () => {
  clearTimeout(typing);
  typing = window.setTimeout(() => void ask(), TYPING_PAUSE_MS);
});
the('search-form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  void ask();
});
order.addEventListener('change', show);
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.target === search || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  search.focus();
});
const near = new IntersectionObserver(
  (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    showMore();
    // It may still be near, on a large screen: only a new observation tells.
    near.unobserve(more);
    near.observe(more);
  },
  { rootMargin: '800px' },
);
near.observe(more);
// Also when the browser brings the page back from its memory.
window.addEventListener('pageshow', showBegun);

search.value = new URL(location.href).searchParams.get('q') ?? '';
grid.replaceChildren(...Array.from({ length: 12 }, () => make('li', '', make('div', 'card card-waiting', make('div', 'art')))));
void ask();
registerWorker();
