// Elements, numbers and times. Names of files are others' words: every text goes in by textContent, and a link only where it
// is one of http or https.

export const moment = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit',
});
const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const number = (value) => count.format(value);

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${units[unit]}`;
}

export const plural = (value, word) => `${number(value)} ${word}${value === 1 ? '' : 's'}`;

export const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

export const byId = (id) => document.getElementById(id);

/** An element with a class and children; strings are text. */
export function el(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, tone) {
  if (tone) element.dataset.tone = tone;
  else delete element.dataset.tone;
}

export function link(url, text, className) {
  if (!url || !/^https?:\/\//.test(url)) return el('span', className, text);
  const anchor = el('a', className, text);
  anchor.href = url;
  anchor.rel = 'noreferrer noopener';
  anchor.target = '_blank';
  return anchor;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** A moment that says how long ago it was, and goes on doing so. */
export function ago(iso) {
  const time = el('time', 'ago');
  time.dateTime = iso;
  time.title = moment.format(new Date(iso));
  age(time);
  return time;
}

export function age(time) {
  const seconds = (Date.now() - new Date(time.dateTime)) / 1000;
  set(time, seconds < 10 ? 'just now' : seconds < 0 ? moment.format(new Date(time.dateTime)) : `${duration(seconds)} ago`);
}

/** Fills `parent` anew only where what it is made from has changed, so that marks and focus stay. */
const made = new WeakMap();
export function fill(parent, from, make) {
  const key = JSON.stringify(from ?? null);
  if (made.get(parent) === key) return;
  made.set(parent, key);
  parent.replaceChildren(...make());
}
