// What the pages share. Text from the data is only ever set as text, never read as HTML.
const DATA = JSON.parse(document.getElementById('data').textContent);
const byId = id => document.getElementById(id);

// An element with attributes, listeners ('onclick') and children: nodes or text.
const make = (tag, ...rest) => fill(document.createElement(tag), ...rest);
const draw = (tag, ...rest) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), ...rest);
function fill(element, attributes = {}, ...children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

function format(value, digits = 4) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  return size && (size < 1e-4 || size >= 1e6) ? value.toExponential(2) : value.toFixed(digits);
}
const formatCount = value => value.toLocaleString('en');
const formatShare = value => value === null ? '–' : `${(100 * value).toFixed(1)} %`;
const formatTick = value => {
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential().replace('+', '')
    : String(Number(value.toPrecision(6)));
};

// Negative if a comes first. What is not known comes last, whichever way is up.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === 'string' ? a.localeCompare(b, 'en', {numeric: true}) : a - b);
}

// Fills a table whose head sorts it. A column is {title, value: row => number, text or null,
// show: row => node or text, number: is it one}; `start` is [column, 1 (ascending) or -1].
function sortTable(table, columns, rows, {start = null, foot = null, onsort = () => {}} = {}) {
  const head = columns.map(column => make('th', {scope: 'col', class: column.number ? 'number' : ''},
    column.value ? make('button', {type: 'button', onclick: () => sort(column)}, column.title) : column.title));
  const lines = new Map(rows.map(row => [row, make('tr', {}, ...columns.map(column =>
    make('td', {class: column.number ? 'number' : ''}, column.show(row))))]));
  const body = make('tbody', {}, ...lines.values());
  let by = null, sign = 1;
  function sort(column, direction = null) {
    sign = direction ?? (column === by ? -sign : column.number ? -1 : 1);
    by = column;
    onsort(columns.indexOf(column), sign);
    head.forEach((cell, i) => columns[i] === by
      ? cell.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending')
      : cell.removeAttribute('aria-sort'));
    const sorted = [...rows].sort((a, b) => compare(by.value(a), by.value(b), sign));
    body.replaceChildren(...sorted.map(row => lines.get(row)));
  }
  table.replaceChildren(make('thead', {}, make('tr', {}, ...head)), body);
  if (foot) table.append(make('tfoot', {}, foot));
  if (start && columns[start[0]]) sort(columns[start[0]], start[1]);
}

// Round numbers from at most low to at least high, about `num` steps apart.
function makeTicks(low, high, num) {
  const rough = (high - low) / num || Math.abs(low) / num || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough * .999) * power;
  const first = Math.floor(low / step + 1e-9), last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({length: last - first + 1}, (_, i) => (first + i) * step);
}

// Draws again whenever the width changes, so that text keeps its size.
function onWidth(element, paint) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) paint(width = now);
  }).observe(element);
}

// A figure of curves over the epochs: series are {name, x, y, color, dashed}. The legend shows
// the values under the pointer; a series that isQuiet is not in it.
function makeChart(title, series, height = 190) {
  series = series.filter(line => line.y.some(value => value !== null));
  const caption = make('figcaption'), holder = make('div');
  const numbers = series.map(() => make('span')), place = make('span', {class: 'key'});
  fill(caption, {}, make('b', {}, title), ...series.map((line, i) => line.isQuiet ? null : make('span', {class: 'key'},
    draw('svg', {'aria-hidden': 'true'}, draw('line', {x1: 0, x2: 24, y1: 5, y2: 5,
      class: `curve ${line.dashed ? 'dashed' : ''}`, style: `stroke: ${line.color}`})),
    line.name, numbers[i])), place);
  const ends = series.map(line => {
    const known = line.y.filter(value => value !== null);
    return `${line.name} from ${format(known[0])} to ${format(known.at(-1))}`;
  });
  const xs = [...new Set(series.flatMap(line => line.x))].sort((a, b) => a - b);
  const values = series.flatMap(line => line.y.filter(value => value !== null));
  if (!values.length) return make('figure', {}, caption, make('p', {class: 'note'}, 'no values'));
  const ticks = makeTicks(Math.min(...values), Math.max(...values), height > 150 ? 4 : 2);
  const label = `${title} over ${xs.length} epochs: ${ends.join('; ')}`;
  onWidth(holder, width => holder.replaceChildren(
    paintChart({series, xs, ticks, width, height, label, numbers, place})));
  return make('figure', {}, caption, holder);
}

function paintChart({series, xs, ticks, width, height, label, numbers, place}) {
  const left = 8 + 7 * Math.max(...ticks.map(tick => formatTick(tick).length)), right = 10;
  const [x0, x1, y0, y1] = [xs[0], xs.at(-1), ticks[0], ticks.at(-1)];
  const toX = x => x1 > x0 ? left + (width - left - right) * (x - x0) / (x1 - x0) : (left + width) / 2;
  const toY = y => 6 + (height - 30) * (y1 - y) / (y1 - y0);
  const svg = draw('svg', {height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label});
  for (const tick of ticks) {
    const y = toY(tick);
    svg.append(draw('line', {class: 'grid', x1: left, x2: width - right, y1: y, y2: y}),
      draw('text', {x: left - 6, y: y + 4, 'text-anchor': 'end'}, formatTick(tick)));
  }
  const whole = makeTicks(x0, x1, width / 70).filter(x => Number.isInteger(x) && x > x0 && x < x1);
  const free = whole.filter(x => toX(x) - left > 40 && width - toX(x) > 50);
  for (const x of new Set([x0, ...free, x1])) {
    const text = x === x0 ? `epoch ${x}` : x;
    const anchor = x === x0 && x1 > x0 ? 'start' : x === x1 && x1 > x0 ? 'end' : 'middle';
    svg.append(draw('text', {x: toX(x), y: height - 6, 'text-anchor': anchor}, text));
  }
  for (const line of series) svg.append(...paintCurve(line, toX, toY));
  const cursor = draw('line', {class: 'cursor', y1: 0, y2: height - 22, visibility: 'hidden'});
  svg.append(cursor);
  const show = x => {
    cursor.setAttribute('visibility', x === null ? 'hidden' : 'visible');
    if (x !== null) fill(cursor, {x1: toX(x), x2: toX(x)});
    series.forEach((line, i) => {
      const at = line.x.indexOf(x);
      numbers[i].textContent = x === null ? '' : format(at < 0 ? null : line.y[at]);
    });
    place.textContent = x === null ? '' : `epoch ${x}`;
  };
  svg.addEventListener('pointerleave', () => show(null));
  svg.addEventListener('pointermove', event => {
    const at = event.clientX - svg.getBoundingClientRect().left;
    show(xs.reduce((best, x) => Math.abs(toX(x) - at) < Math.abs(toX(best) - at) ? x : best));
  });
  return svg;
}

// A path through the known values: not every epoch is validated. A dot if there is only one.
function paintCurve(line, toX, toY) {
  const points = line.x.map((x, i) => [x, line.y[i]]).filter(([, y]) => y !== null && y !== undefined);
  const [[x, y]] = points;
  if (points.length === 1) return [draw('circle', {cx: toX(x), cy: toY(y), r: 3, style: `fill: ${line.color}`})];
  const path = points.map(point => `${toX(point[0])} ${toY(point[1])}`).join('L');
  return [draw('path', {d: `M${path}`, class: `curve ${line.dashed ? 'dashed' : ''}`, style: `stroke: ${line.color}`})];
}
