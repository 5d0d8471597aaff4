// The last day as two plots and a table. Drawn as SVG whose numbers come from here and whose colours come from the sheet.

import { bytes, number, plural } from './dom.js';

const DAY = 24 * 60;
/** Minutes of one bar. */
const BIN = 15;
const BINS = DAY / BIN;
const HEIGHT = 190;
const MARGIN = { left: 58, right: 8, top: 10, bottom: 24 };
const SVG = 'http://www.w3.org/2000/svg';

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });

/** Rows of minutes as bins that end with the one under way. */
function bins(day) {
  const end = Math.floor(Date.now() / 60000 / BIN) * BIN + BIN;
  const all = Array.from({ length: BINS }, (_, at) => ({ minute: end - DAY + at * BIN, files: 0, bytes: 0, waiting: null }));
  day.minutes.forEach((minute, row) => {
    const bin = all[Math.floor((minute - (end - DAY)) / BIN)];
    if (!bin) return;
    bin.files += day.files[row];
    bin.bytes += day.bytes[row];
    if (day.waiting[row] !== null) bin.waiting = Math.max(bin.waiting ?? 0, day.waiting[row]);
  });
  return all;
}

/** The step between lines of the grid, so that there are about four: 1, 2 or 5 times a power of the base's digits. */
function step(top, isBytes) {
  const unit = isBytes ? 1024 ** Math.max(0, Math.floor(Math.log(Math.max(top, 1)) / Math.log(1024))) : 1;
  const wanted = top / unit / 4;
  const power = 10 ** Math.floor(Math.log10(Math.max(wanted, isBytes ? 1e-3 : 1)));
  const factor = [1, 2, 5, 10].find((factor) => factor * power >= wanted) ?? 10;
  return Math.max(factor * power * unit, isBytes ? 1 / 1024 : 1);
}

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const at = (minute) => clock.format(new Date(minute * 60000));

/** Draws `value` of each bin into the figure, whose text says the same in words. */
function draw(figure, all, { value, format, words, isArea, isBytes, name }) {
  const canvas = figure.querySelector('.canvas');
  const width = Math.max(canvas.clientWidth, 240);
  const values = all.map(value);
  const most = Math.max(0, ...values.filter((value) => value !== null));
  const gap = step(most || (isBytes ? 4096 : 4), isBytes);
  const top = Math.max(Math.ceil(most / gap), 1) * gap;
  const x = (bin) => MARGIN.left + (bin / BINS) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('tabindex', '0');
  svg.setAttribute('aria-label', `${name}: ${words}`);

  for (let line = gap; line <= top * 1.001; line += gap) {
    add(svg, 'line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(line), y2: y(line) });
    add(svg, 'text', { x: MARGIN.left - 6, y: y(line) + 4, 'text-anchor': 'end' }, format(line));
  }
  add(svg, 'text', { x: MARGIN.left - 6, y: y(0) + 4, 'text-anchor': 'end' }, '0');
  const hours = width < 420 ? 6 : 3;
  all.forEach((bin, index) => {
    const date = new Date(bin.minute * 60000);
    if (date.getMinutes() >= BIN || date.getHours() % hours !== 0) return;
    add(svg, 'line', { class: 'grid', x1: x(index), x2: x(index), y1: y(0), y2: y(0) + 4 });
    if (x(index) > MARGIN.left + 12 && x(index) < width - MARGIN.right - 12) {
      add(svg, 'text', { x: x(index), y: HEIGHT - 6, 'text-anchor': 'middle' }, at(bin.minute));
    }
  });

  if (isArea) drawArea(svg, values, x, y);
  else {
    values.forEach((value, index) => {
      if (!value) return;
      const height = Math.max(y(0) - y(value), 1.5);
      add(svg, 'rect', {
        class: 'bar', x: x(index) + 0.5, y: y(0) - height, width: Math.max(x(1) - x(0) - 1, 1), height, rx: 1,
      });
    });
  }
  add(svg, 'line', { class: 'base', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(0), y2: y(0) });
  const cursor = add(svg, 'line', { class: 'cursor', y1: MARGIN.top, y2: y(0), visibility: 'hidden' });

  const caption = figure.querySelector('p');
  const point = (index) => {
    const shown = values[index] === null ? 'not recorded' : format(values[index]);
    caption.textContent = `${at(all[index].minute)} to ${at(all[index].minute + BIN)}: ${shown}`;
    const middle = (x(index) + x(index + 1)) / 2;
    cursor.setAttribute('x1', middle);
    cursor.setAttribute('x2', middle);
    cursor.setAttribute('visibility', 'visible');
  };
  const leave = () => {
    caption.textContent = words;
    cursor.setAttribute('visibility', 'hidden');
  };
  let pointed = BINS - 1;
  svg.addEventListener('pointermove', (event) => {
    const inside = (event.clientX - svg.getBoundingClientRect().left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    pointed = Math.min(BINS - 1, Math.max(0, Math.floor(inside * BINS)));
    point(pointed);
  });
  svg.addEventListener('pointerleave', leave);
  svg.addEventListener('blur', leave);
  svg.addEventListener('keydown', (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -4, PageDown: 4, Home: -BINS, End: BINS };
    if (!(event.key in moves)) return;
    event.preventDefault();
    pointed = Math.min(BINS - 1, Math.max(0, pointed + moves[event.key]));
    point(pointed);
  });
  const hadFocus = canvas.contains(document.activeElement);
  canvas.replaceChildren(svg);
  if (hadFocus) svg.focus();
  leave();
}

/** Runs of bins that were looked at as steps; what nobody looked at is shaded. */
function drawArea(svg, values, x, y) {
  let run = [];
  const end = () => {
    if (run.length > 0) {
      const steps = run.flatMap((bin) => [`${x(bin)},${y(values[bin])}`, `${x(bin + 1)},${y(values[bin])}`]);
      const first = run[0];
      const last = run[run.length - 1] + 1;
      add(svg, 'polygon', { class: 'area', points: [`${x(first)},${y(0)}`, ...steps, `${x(last)},${y(0)}`].join(' ') });
      add(svg, 'polyline', { class: 'edge', points: steps.join(' ') });
    }
    run = [];
  };
  let unseen = 0;
  values.forEach((value, index) => {
    if (value !== null) run.push(index);
    else {
      end();
      unseen += 1;
    }
    const isLast = index === values.length - 1 || (value === null && values[index + 1] !== null);
    if (unseen > 0 && isLast && value === null) {
      const from = x(index + 1 - unseen);
      add(svg, 'rect', { class: 'unseen', x: from, y: MARGIN.top, width: x(index + 1) - from, height: y(0) - MARGIN.top });
      if (x(index + 1) - from > 90) {
        const middle = (x(index + 1) + from) / 2;
        add(svg, 'text', { x: middle, y: (MARGIN.top + y(0)) / 2, 'text-anchor': 'middle' }, 'not recorded');
      }
      unseen = 0;
    }
  });
  end();
}

function table(body, all) {
  const hours = [];
  for (const bin of all) {
    const hour = Math.floor(bin.minute / 60);
    let row = hours[hours.length - 1];
    if (row?.hour !== hour) hours.push(row = { hour, files: 0, bytes: 0, waiting: null });
    row.files += bin.files;
    row.bytes += bin.bytes;
    if (bin.waiting !== null) row.waiting = Math.max(row.waiting ?? 0, bin.waiting);
  }
  body.replaceChildren(...hours.reverse().map((row) => {
    const line = document.createElement('tr');
    const head = document.createElement('th');
    head.scope = 'row';
    head.textContent = at(row.hour * 60);
    const cells = [number(row.files), bytes(row.bytes), row.waiting === null ? 'not recorded' : number(row.waiting)];
    line.append(head, ...cells.map((text) => {
      const cell = document.createElement('td');
      cell.textContent = text;
      return cell;
    }));
    return line;
  }));
}

/** Shows a day in all three forms. Returns what was pushed in it. */
export function show(day) {
  const all = bins(day);
  const files = all.reduce((sum, bin) => sum + bin.files, 0);
  const total = all.reduce((sum, bin) => sum + bin.bytes, 0);
  const busiest = all.reduce((most, bin) => (bin.bytes > most.bytes ? bin : most), all[0]);
  const worst = all.reduce((most, bin) => ((bin.waiting ?? 0) > (most.waiting ?? 0) ? bin : most), all[0]);
  draw(document.getElementById('throughput'), all, {
    name: 'Throughput',
    value: (bin) => bin.bytes,
    format: bytes,
    isBytes: true,
    words: files === 0
      ? 'Nothing was committed.'
      : `${plural(files, 'file')}, ${bytes(total)} committed; at most ${bytes(busiest.bytes)} in ${BIN} minutes, at ${at(busiest.minute)}`,
  });
  draw(document.getElementById('backlog'), all, {
    name: 'Backlog',
    value: (bin) => bin.waiting,
    format: number,
    isArea: true,
    words: (worst.waiting ?? 0) === 0
      ? 'No file was seen waiting.'
      : `At most ${plural(worst.waiting, 'file')} waited, at ${at(worst.minute)}`,
  });
  table(document.querySelector('#hours tbody'), all);
  return { files, bytes: total };
}
