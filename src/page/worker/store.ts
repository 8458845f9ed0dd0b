// What is kept of titles: answers in a cache of the browser's, and beside it, in memory, how large and how old they are. Only whole
// answers get in; what does not fit is let go of as `policy` says.

import { classify, toDrop, type Kept, type Place } from './policy';

const BYTES_MAX = 512 * 1024 * 1024;
/** Of what the browser grants this site; other things want room too. */
const SHARE_OF_QUOTA = 0.25;
const BYTES = 'x-kept-bytes';
/** Also tells the page that an answer came from here. */
const AT = 'x-kept';

export class Store {
  readonly #name: string;
  readonly #scope: string;
  #entries: Promise<Map<string, Kept>> | undefined;
  place: Place | undefined;

  constructor(name: string, scope: string) {
    this.#name = name;
    this.#scope = scope;
  }

  async find(url: string): Promise<Response | undefined> {
    const found = await (await caches.open(this.#name)).match(url, { ignoreVary: true });
    const entry = found && (await this.#index()).get(url);
    if (entry !== undefined) entry.used = Date.now();
    return found;
  }

  async has(url: string): Promise<boolean> {
    return (await this.#index()).has(url);
  }

  /** Takes a whole answer; a body that breaks off, or a full disk, keeps nothing. */
  async keep(url: string, answer: Response): Promise<void> {
    const { title, segment } = classify(url, this.#scope);
    if (title === undefined || answer.status !== 200) return;
    try {
      const body = await answer.arrayBuffer();
      const headers = new Headers(answer.headers);
      const used = Date.now();
      headers.set(BYTES, String(body.byteLength));
      headers.set(AT, String(used));
      // The body is decoded already.
      headers.delete('content-encoding');
      await (await caches.open(this.#name)).put(url, new Response(body, { headers }));
      const entry: Kept = { url, title, bytes: body.byteLength, used };
      (await this.#index()).set(url, segment === undefined ? entry : { ...entry, segment });
    } catch {
      return;
    } finally {
      await this.#trim();
    }
  }

  async #trim(): Promise<void> {
    const entries = await this.#index();
    const { quota } = await navigator.storage.estimate();
    const bytesMax = Math.min(BYTES_MAX, (quota ?? Infinity) * SHARE_OF_QUOTA);
    const drop = toDrop([...entries.values()], this.place, bytesMax);
    if (drop.length === 0) return;
    const cache = await caches.open(this.#name);
    for (const { url } of drop) {
      entries.delete(url);
      await cache.delete(url, { ignoreVary: true });
    }
  }

  /** Read from the cache once in a worker's life. */
  #index(): Promise<Map<string, Kept>> {
    this.#entries ??= (async () => {
      const entries = new Map<string, Kept>();
      const cache = await caches.open(this.#name);
      for (const request of await cache.keys()) {
        const headers = (await cache.match(request, { ignoreVary: true }))?.headers;
        const { title, segment } = classify(request.url, this.#scope);
        if (headers === undefined || title === undefined) continue;
        const entry = { url: request.url, title, bytes: Number(headers.get(BYTES)), used: Number(headers.get(AT)) };
        entries.set(request.url, segment === undefined ? entry : { ...entry, segment });
      }
      return entries;
    })();
    return this.#entries;
  }
}
