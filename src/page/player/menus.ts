// The menus for quality, sound and subtitles: a button, and a list of which one is chosen.

import { icon, make, the } from '../common/dom';
import type { Choice } from './stream';

export interface Menu {
  button: string;
  title: string;
  choices(): Choice[];
  chosen(): number;
  choose(id: number): void;
  /** Fewer choices than this are no choice: the button is hidden. */
  choicesMin: number;
}

export class Menus {
  readonly #panel = the('menu', HTMLElement);
  readonly #menus: Menu[];
  #open: Menu | undefined;

  constructor(menus: Menu[]) {
    this.#menus = menus;
    for (const menu of menus) {
      the(menu.button, HTMLButtonElement).addEventListener('click', () => (this.#open === menu ? this.close() : this.#show(menu)));
    }
    this.#panel.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener('pointerdown', (event) => {
      const target = event.target as Element;
      if (this.#open !== undefined && target.closest('#menu, .menu-button') === null) this.close();
    });
  }

  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  /** What can be chosen, or is, has changed. */
  refresh(): void {
    for (const menu of this.#menus) the(menu.button, HTMLButtonElement).hidden = menu.choices().length < menu.choicesMin;
    if (this.#open !== undefined) this.#show(this.#open);
  }

  close(): void {
    if (this.#open === undefined) return;
    const button = the(this.#open.button, HTMLButtonElement);
    button.setAttribute('aria-expanded', 'false');
    if (this.#panel.contains(document.activeElement)) button.focus();
    this.#open = undefined;
    this.#panel.hidden = true;
  }

  #show(menu: Menu): void {
    if (this.#open !== menu) this.close();
    const focused = this.#open === menu ? [...this.#panel.querySelectorAll('button')].findIndex((item) => item === document.activeElement) : -1;
    this.#open = menu;
    const items = menu.choices().map((choice) => this.#item(menu, choice));
    this.#panel.replaceChildren(make('div', 'menu-title', menu.title), ...items);
    this.#panel.setAttribute('aria-label', menu.title);
    this.#panel.hidden = false;
    the(menu.button, HTMLButtonElement).setAttribute('aria-expanded', 'true');
    (items[focused] ?? items.find((item) => item.ariaChecked === 'true') ?? items[0])?.focus();
  }

  #item(menu: Menu, { id, label }: Choice): HTMLButtonElement {
    const item = make('button', 'menu-item', icon('i-check'), make('span', '', label));
    item.type = 'button';
    item.setAttribute('role', 'menuitemradio');
    item.setAttribute('aria-checked', String(menu.chosen() === id));
    item.dataset['choice'] = String(id);
    item.addEventListener('click', () => {
      menu.choose(id);
      this.close();
    });
    return item;
  }

  #key(event: KeyboardEvent): void {
    const items = [...this.#panel.querySelectorAll('button')];
    const at = items.findIndex((item) => item === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    items.at(to % items.length)?.focus();
  }
}
