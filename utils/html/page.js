'use strict';
// What the pages share. All text is set as text, never as HTML.

const data = JSON.parse(document.getElementById('data').textContent);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function place(id, ...children) {
  document.getElementById(id).replaceChildren(...children.flat());
}

function format(value, digits = 4) {
  return value === null || value === undefined ? '–' : Number(value).toFixed(digits);
}

function compare(a, b) {
  if (a === null || a === undefined || a === '') return 1; // what is missing comes last
  if (b === null || b === undefined || b === '') return -1;
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortRows(rows, get, isDescending) {
  const known = (row) => ![null, undefined, ''].includes(get(row));
  const sorted = rows.filter(known).sort((a, b) => compare(get(a), get(b)));
  if (isDescending) sorted.reverse();
  return [...sorted, ...rows.filter((row) => !known(row))];
}

// columns: [{name, get(row), show(row) -> text or node, isText}]; a click on a heading sorts.
function makeTable(columns, rows, footer = []) {
  const body = make('tbody');
  const cells = (row, tag = 'td') => make('tr', {}, columns.map((column) =>
    make(tag, { class: column.isText ? 'text' : null }, column.show ? column.show(row) : column.get(row) ?? '')));
  const headings = columns.map((column) => {
    const heading = make('th', { scope: 'col', class: column.isText ? 'text' : null });
    heading.append(make('button', { type: 'button', onclick: () => sort(column, heading) }, column.name));
    return heading;
  });
  function sort(column, heading) {
    const isDescending = heading.getAttribute('aria-sort') === 'descending' ? false
      : heading.getAttribute('aria-sort') === 'ascending' ? true : !column.isText;
    headings.forEach((other) => other.removeAttribute('aria-sort'));
    heading.setAttribute('aria-sort', isDescending ? 'descending' : 'ascending');
    body.replaceChildren(...sortRows(rows, column.get, isDescending).map((row) => cells(row)));
  }
  body.append(...rows.map((row) => cells(row)));
  const foot = footer.length ? make('tfoot', {}, footer.map((row) => cells(row))) : null;
  return make('div', { class: 'scroll' }, make('table', {}, make('thead', {}, make('tr', {}, headings)), body, foot));
}

// lines: [{name, colour, points: [[x, y]]}]
function makeKeys(lines) {
  return lines.map((line) => make('span', { class: 'key', style: `color: ${line.colour}` }, `━ ${line.name} `));
}

function makeChart(title, lines, hasKeys = true) {
  lines = lines.filter((line) => line.points.length);
  const points = lines.flatMap((line) => line.points);
  if (!points.length) return null;
  const [width, height, left, bottom, top, right] = [320, 190, 52, 22, 10, 10];
  const range = (values) => {
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  };
  const [x0, x1] = range(points.map((p) => p[0]));
  const [y0, y1] = range(points.map((p) => p[1]));
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - bottom - top);
  const short = (v) => Number(v.toPrecision(3)).toString();
  const marks = [0, 0.5, 1].map((share) => y0 + share * (y1 - y0)).flatMap((v) => [
    draw('line', { x1: left, x2: width - right, y1: y(v), y2: y(v), stroke: 'var(--line)' }),
    draw('text', { x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, short(v)),
  ]);
  const ends = [...new Set([points.reduce((a, p) => Math.min(a, p[0]), Infinity), points.reduce((a, p) => Math.max(a, p[0]), -Infinity)])];
  const ticks = ends.map((v) => draw('text', { x: x(v), y: height - 6, 'text-anchor': 'middle' }, short(v)));
  const drawn = lines.flatMap((line) => {
    const at = line.points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(' ');
    const path = draw('polyline', {
      points: at, fill: 'none', stroke: line.colour, 'stroke-width': 2,
    }, draw('title', {}, line.name));
    const dots = line.points.length > 40 ? [] : line.points.map((p) => draw('circle', {
      cx: x(p[0]), cy: y(p[1]), r: 2.5, fill: line.colour,
    }, draw('title', {}, `${line.name}: ${short(p[1])} in epoch ${p[0]}`)));
    return [path, ...dots];
  });
  const label = `${title}: ${lines.map((line) => line.name).join(', ')} over epochs`;
  return make('figure', { class: 'chart' }, make('figcaption', {}, `${title} `, hasKeys ? makeKeys(lines) : []),
    draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, marks, ticks, drawn));
}

function readPoints(rows, name) {
  return rows.map((row) => [Number(row.epoch), parseFloat(row[name])]).filter((p) => Number.isFinite(p[1]));
}

function listScores(rows) {
  const names = rows.flatMap((row) => Object.keys(row)).filter((name) => /^(val|train)\/[^/]+$/.test(name));
  const order = (name) => (name.startsWith('val/') ? 0 : 1);
  return [...new Set(names.sort((a, b) => order(a) - order(b)).map((name) => name.split('/')[1]))];
}
