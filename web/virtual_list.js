// A long list. Only the visible rows, and some around them, are in the document. All rows have the
// height of the first one. A row with the focus stays.
import { perFrame } from './dom.js';

const AROUND = 12; // rows above and below the visible ones
const HEIGHT_PX = 36; // of a row, until one was measured
const EDGE_PX = 4; // between a row that is revealed and the edge
const VIEW_PX = 600; // for a list that is not shown yet

export class VirtualList {
  #list; // the <ul>
  #scroller;
  #keyOf;
  #makeRow;
  #fillRow;
  #items = [];
  #rows = new Map(); // key -> <li>
  #rowHeight = HEIGHT_PX;

  // makeRow(item) makes the <li>, fillRow(li, item) says what may have changed since.
  constructor({ list, scroller, keyOf, makeRow, fillRow }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#keyOf = keyOf;
    this.#makeRow = makeRow;
    this.#fillRow = fillRow;
    const soon = perFrame(() => this.#render());
    scroller.addEventListener('scroll', soon, { passive: true });
    new ResizeObserver(soon).observe(scroller);
  }

  show(items) {
    this.#items = items;
    this.#render();
  }

  reveal(index) {
    const { scrollTop, clientHeight } = this.#scroller;
    const listTop = this.#list.getBoundingClientRect().top - this.#scroller.getBoundingClientRect().top + scrollTop;
    const top = listTop + index * this.#rowHeight - EDGE_PX;
    const bottom = top + this.#rowHeight + 2 * EDGE_PX - clientHeight;
    if (this.#scroller.scrollTop > top) this.#scroller.scrollTop = top;
    else if (this.#scroller.scrollTop < bottom) this.#scroller.scrollTop = bottom;
    this.#render();
  }

  // Returns the row of an item, created if it is not visible.
  rowAt(index) {
    this.reveal(index);
    return this.#rows.get(this.#keyOf(this.#items[index]));
  }

  #render() {
    const { scrollTop, clientHeight } = this.#scroller;
    const count = this.#items.length;
    const first = Math.max(0, Math.min(Math.floor(scrollTop / this.#rowHeight), count) - AROUND);
    const end = Math.min(count, first + Math.ceil((clientHeight || VIEW_PX) / this.#rowHeight) + 2 * AROUND);
    const wanted = new Map();
    for (let i = first; i < end; i += 1) wanted.set(this.#keyOf(this.#items[i]), i);
    this.#keepFocused(wanted);
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    const indexes = [...wanted].sort((a, b) => a[1] - b[1]);
    indexes.forEach(([key, index], place) => this.#put(key, index, place));
    this.#list.style.height = `${count * this.#rowHeight}px`;
    this.#measure();
  }

  #keepFocused(wanted) {
    for (const [key, row] of this.#rows) {
      if (wanted.has(key) || !row.contains(document.activeElement)) continue;
      const index = this.#items.findIndex((item) => this.#keyOf(item) === key);
      if (index >= 0) wanted.set(key, index);
    }
  }

  #put(key, index, place) {
    const item = this.#items[index];
    let row = this.#rows.get(key);
    if (!row) {
      row = this.#makeRow(item);
      this.#rows.set(key, row);
    }
    this.#fillRow(row, item);
    row.style.transform = `translateY(${index * this.#rowHeight}px)`;
    row.setAttribute('aria-setsize', this.#items.length);
    row.setAttribute('aria-posinset', index + 1);
    const there = this.#list.children[place];
    if (there === row) return;
    const hasFocus = row.contains(document.activeElement) && document.activeElement;
    this.#list.insertBefore(row, there ?? null);
    if (hasFocus) hasFocus.focus({ preventScroll: true });
  }

  #measure() {
    const height = this.#list.firstElementChild?.offsetHeight ?? 0;
    if (height === 0 || height === this.#rowHeight) return;
    this.#rowHeight = height;
    this.#render();
  }
}
