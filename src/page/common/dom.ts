// Small helpers for the document.

/** The element with this id, of this kind; a page without it is a mistake of the build. */
export function the<T extends Element>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return element;
}

/** A new element with a class, an optional text and children. Text is text: no markup is ever parsed. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  element.append(...children);
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** An icon of the page's own sheet of symbols. */
export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#${name}`);
  svg.append(use);
  return svg;
}

/** Shows another icon in a button, and says what it does now. */
export function relabel(button: HTMLElement, iconName: string, label: string): void {
  button.querySelector('use')?.setAttribute('href', `#${iconName}`);
  if (button.getAttribute('aria-label') !== label) button.setAttribute('aria-label', label);
  button.title = label;
}
