// The service worker: keeps the pages, and of titles that were begun their playlists and segments, so that they play on through a gap
// in the network, also after a reload. It answers from what is kept only where that is as good: files whose name changes with
// their content, or whatever there is while the network is away.

import { classify } from './policy';
import { Store } from './store';

declare const self: ServiceWorkerGlobalScope;
/** Of this build; see vite.worker.config.ts. */
declare const VERSION: string;
declare const ASSETS: string[];

type Message =
  | { type: 'started'; title: string; urls: string[] }
  | { type: 'at'; title: string; segment: number; urls: string[]; ahead: string[] };

const scope = self.registration.scope;
/** Several libraries may lie on one site, below different folders. */
const ours = `reelgate ${new URL(scope).pathname} `;
const SHELL = `${ours}shell ${VERSION}`;
const store = new Store(`${ours}titles 1`, scope);
/** So long the network may take while something is kept. */
const PATIENCE_MS = 4000;

self.addEventListener('install', (event) => {
  const urls = ['', ...ASSETS].map((path) => new URL(path, scope).href);
  const fill = async (): Promise<void> => {
    const cache = await caches.open(SHELL);
    await cache.addAll(urls);
    // A list that cannot be had just now is no reason to do without a worker.
    await cache.add(new URL('titles.json', scope).href).catch(() => undefined);
  };
  event.waitUntil(fill());
  void self.skipWaiting();
});

self.addEventListener('activate', (event) => {
  const old = (name: string): boolean => name.startsWith(`${ours}shell `) && name !== SHELL;
  const clean = async (): Promise<void> => {
    for (const name of (await caches.keys()).filter(old)) await caches.delete(name);
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || request.headers.has('range')) return;
  const { kind } = classify(request.url, scope);
  if (kind === 'asset') event.respondWith(fromShell(request));
  else if (kind === 'library' || kind === 'titles') event.respondWith(shellOrNetwork(event, kind));
  else if (kind === 'segment') event.respondWith(segment(event));
  else if (kind !== 'other') event.respondWith(newest(event));
});

self.addEventListener('message', (event) => {
  const message = event.data as Message;
  if (message.type === 'at') {
    store.place = { title: message.title, segment: message.segment };
    ahead = message.ahead;
  }
  needed.push(...message.urls.slice(0, NEEDED_MAX - needed.length));
  event.waitUntil(fetchOn());
});

/** A newer build may ask for what an older worker does not know. */
const fromShell = async (request: Request): Promise<Response> =>
  (await (await caches.open(SHELL)).match(request.url, { ignoreVary: true })) ?? fetch(request);

/** The newest library page and list there are. */
async function shellOrNetwork(event: FetchEvent, kind: 'library' | 'titles'): Promise<Response> {
  const cache = await caches.open(SHELL);
  const url = kind === 'library' ? scope : event.request.url;
  const put = (answer: Response): Promise<void> => cache.put(url, answer);
  return patiently(event, await cache.match(url, { ignoreVary: true }), put);
}

/** Of a title: the network's answer, and what is kept where there is none. */
async function newest(event: FetchEvent): Promise<Response> {
  const url = plain(event.request.url);
  return patiently(event, await store.find(url), (answer) => store.keep(url, answer));
}

async function patiently(event: FetchEvent, kept: Response | undefined, keep: (answer: Response) => Promise<void>): Promise<Response> {
  const asked = fetch(event.request).then((answer) => {
    if (answer.ok) event.waitUntil(keep(answer.clone()));
    return answer;
  });
  if (kept === undefined) return asked;
  event.waitUntil(asked.catch(() => undefined));
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, PATIENCE_MS));
  const answer = await Promise.race([asked, late]).catch(() => undefined);
  return answer === undefined || answer.status >= 500 ? kept : answer;
}

/** Segments under way beyond what the player asked for. */
const underWay = new Map<string, Promise<void>>();

async function segment(event: FetchEvent): Promise<Response> {
  const { url } = event.request;
  await underWay.get(url);
  const kept = await store.find(url);
  if (kept?.headers.get('cache-control')?.includes('immutable')) return kept;
  try {
    const answer = await fetch(event.request);
    if (answer.status >= 500 && kept !== undefined) return kept;
    if (answer.ok) event.waitUntil(store.keep(url, answer.clone()));
    return answer;
  } catch (error) {
    if (kept !== undefined) return kept;
    throw error;
  }
}

/** What a title needs whatever happens; and what comes next, of which only the newest word counts. */
const needed: string[] = [];
let ahead: string[] = [];
const NEEDED_MAX = 500;
let fetching = false;

/** One after the other, as long as there is something to fetch and the network is there. */
async function fetchOn(): Promise<void> {
  if (fetching) return;
  fetching = true;
  for (;;) {
    const next = needed.shift() ?? ahead.shift();
    if (next === undefined) break;
    const url = plain(next);
    if (classify(url, scope).kind === 'other' || underWay.has(url) || (await store.has(url))) continue;
    const fetched = fetch(url, { priority: 'low' } as RequestInit).then((answer) => store.keep(url, answer));
    underWay.set(url, fetched.catch(() => undefined));
    const failed = await fetched.then(() => false, () => true);
    underWay.delete(url);
    if (failed) ahead = [];
  }
  fetching = false;
}

/** Without query and fragment: pages are the same with them. */
function plain(address: string): string {
  const url = new URL(address);
  url.search = url.hash = '';
  return url.href;
}
