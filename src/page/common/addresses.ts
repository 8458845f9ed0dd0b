// Where things lie. All is found from the site's root, which is the folder above the built scripts, whatever prefix the site has.

const here = import.meta.url;
export const root = new URL('../', here);

const below = (path: string): string => new URL(path, root).href;
const title = (id: string, file: string): string => below(`t/${encodeURIComponent(id)}/${file}`);

export const titlesAddress = (query: string): string =>
  below(query === '' ? 'titles.json' : `titles.json?q=${encodeURIComponent(query)}`);
export const watchAddress = (id: string): string => below(`watch/${encodeURIComponent(id)}`);
export const posterAddress = (id: string, width?: number): string =>
  title(id, width === undefined ? 'poster.jpg' : `poster.jpg?width=${width}`);
export const trickplayAddress = (id: string): string => title(id, 'trickplay.vtt');
export const masterAddress = (id: string): string => title(id, 'master.m3u8');
export const detailsAddress = (id: string): string => title(id, 'title.json');
export const fileAddress = (id: string): string => title(id, 'file');
export const workerAddress = (): string => below('sw.js');

/** The title a player page is about: the last part of its address. */
export const watchedTitle = (pathname: string): string => decodeURIComponent(pathname.split('/').at(-1) ?? '');
