// The page's side of the service worker. Without one (an insecure context, an old browser, a certificate nobody trusts) everything works
// but the network gap.

import { workerAddress } from './addresses';

/** What a player tells the worker; see `worker/main.ts`. */
export type Message =
  | { type: 'started'; title: string; urls: string[] }
  | { type: 'at'; title: string; segment: number; urls: string[]; ahead: string[] };

let settle: (registration?: ServiceWorkerRegistration) => void;
/** What is told before waits for it. */
const registered = new Promise<ServiceWorkerRegistration | undefined>((resolve) => (settle = resolve));

export function registerWorker(): void {
  if (!window.isSecureContext || !('serviceWorker' in navigator)) return settle();
  const ready = navigator.serviceWorker.register(workerAddress()).then(() => navigator.serviceWorker.ready);
  ready.then(settle, (error: unknown) => {
    console.info('no service worker:', error);
    settle();
  });
}

/** Whether answers pass through the worker already. */
export const isWatched = (): boolean => navigator.serviceWorker?.controller != null;

export async function tell(message: Message): Promise<void> {
  (await registered)?.active?.postMessage(message);
}
