// The time line of the delay and its histogram, each against the band.

import { cells, el, keyed, set, svg, widthOf } from "./dom.js";
import { ms, percent, plural, rate, span } from "./format.js";

const HEIGHT = 170;
const LEFT = 52;
const RIGHT = 10;
const TOP = 16;
const BOTTOM = 22;
/** A time line is never shorter, seconds. */
const SHORTEST = 60;
/** The axis ends at so many times the upper bound at most. */
const MOST_BANDS = 3;
/** Points further apart than this are not joined, milliseconds: nothing was measured in between. */
const GAP_MS = 7000;

/** A round step for about `count` ticks. */
function stepFor(range, count) {
  const raw = range / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
}

function frame(chart, label) {
  const width = widthOf(chart.parentNode);
  set(chart, { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-label": label });
  return width;
}

function draw(chart, shapes) {
  keyed(chart, shapes, (shape) => shape.key, (shape) => svg(shape.tag), (node, { tag, key, text, ...attributes }) => {
    set(node, attributes);
    if (text !== undefined && node.textContent !== text) node.textContent = text;
  });
}

const line = (key, name, x1, y1, x2, y2) => ({ tag: "line", key, class: name, x1, y1, x2, y2 });
const label = (key, x, y, text, anchor = "start", name = "") => ({ tag: "text", key, x, y, text, "text-anchor": anchor, class: name });

export function drawTimeline(chart, { history, band, moves, now, name }) {
  const known = history.filter((point) => point.valueUs !== null);
  const last = known.at(-1);
  const width = frame(chart, last
    ? `Delay of ${name} over time. Now ${ms(last.valueUs)}; the band is ${ms(band.low)} to ${ms(band.high)}.`
    : `Delay of ${name} over time: nothing measured yet.`);
  const length = Math.min(600, Math.max(SHORTEST, now - (history[0]?.atMs ?? now * 1000) / 1000));
  const highest = known.reduce((most, point) => Math.max(most, point.highUs ?? 0, point.valueUs), band.high * 1.25);
  // A spike must not press the band flat: what is far above is cut off, and said.
  const top = Math.min(highest * 1.05, band.high * MOST_BANDS);
  const x = (secs) => LEFT + (width - LEFT - RIGHT) * (1 - (now - secs) / length);
  const y = (us) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.min(us, top) / top);
  const shapes = [
    { tag: "rect", key: "band", class: "band", x: LEFT, y: y(band.high), width: width - LEFT - RIGHT, height: y(band.low) - y(band.high) },
  ];
  const tick = stepFor(top, 4);
  for (let us = 0; us <= top; us += tick) {
    shapes.push(line(`y${us}`, "grid", LEFT, y(us), width - RIGHT, y(us)), label(`yt${us}`, LEFT - 6, y(us) + 4, `${us / 1000} ms`, "end"));
  }
  const ago = [10, 15, 30, 60, 120, 300].find((step) => step >= length / Math.min(6, width / 70)) ?? 300;
  for (let secs = 0; secs <= length; secs += ago) {
    shapes.push(label(`x${secs}`, x(now - secs), HEIGHT - 6, secs === 0 ? "now" : `−${span(secs)}`, secs === 0 ? "end" : "middle"));
  }
  shapes.push(line("low", "bound", LEFT, y(band.low), width - RIGHT, y(band.low)), line("high", "bound", LEFT, y(band.high), width - RIGHT, y(band.high)));
  const at = (point) => x(point.atMs / 1000).toFixed(1);
  for (const run of runsOf(history, (point) => point.lowUs !== null)) {
    const up = run.map((point) => `${at(point)} ${y(point.highUs).toFixed(1)}`);
    const down = run.map((point) => `${at(point)} ${y(Math.max(0, point.lowUs)).toFixed(1)}`).reverse();
    shapes.push({ tag: "path", key: `i${run[0].atMs}`, class: "interval", d: `M${[...up, ...down].join("L")}Z` });
  }
  for (const run of runsOf(history, (point) => point.valueUs !== null)) {
    shapes.push({ tag: "path", key: `v${run[0].atMs}`, class: "value", d: `M${run.map((point) => `${at(point)} ${y(point.valueUs).toFixed(1)}`).join("L")}` });
  }
  if (highest > top) shapes.push(label("cut", width - RIGHT, TOP + 12, `cut off: up to ${ms(highest)}`, "end", "cut"));
  for (const move of moves.filter((move) => now - move.at < length)) {
    const where = x(move.at);
    shapes.push(line(`m${move.at}`, "move", where, TOP, where, HEIGHT - BOTTOM));
    shapes.push(label(`mt${move.at}`, where, TOP - 4, move.name, where > width - 80 ? "end" : "start", "move-name"));
  }
  draw(chart, shapes);
}

/** Stretches of neighbouring points that `has` accepts. */
function runsOf(points, has) {
  const runs = [];
  let run = [];
  for (const point of points) {
    const joins = has(point) && (run.length === 0 || point.atMs - run.at(-1).atMs <= GAP_MS);
    if (!joins && run.length) {
      runs.push(run);
      run = [];
    }
    if (has(point)) run.push(point);
  }
  if (run.length) runs.push(run);
  return runs;
}

export function drawHistogram(chart, { histogram, band, value, name }) {
  const { buckets, count } = histogram;
  chart.toggleAttribute("hidden", count === 0);
  const inside = buckets.filter((bucket) => bucket.lowUs >= band.low && bucket.highUs <= band.high);
  const share = count ? inside.reduce((sum, bucket) => sum + bucket.count, 0) / count : 0;
  const width = frame(chart, `Histogram of ${plural(count, "request")} of ${name}; ${percent(share)} lie wholly inside the band.`);
  if (count === 0) return;
  const from = Math.log(Math.max(1, Math.min(buckets[0].lowUs, band.low / 1.5)));
  const to = Math.log(Math.max(buckets.at(-1).highUs, band.high * 1.5));
  const most = Math.max(...buckets.map((bucket) => bucket.count)) / count;
  const x = (us) => LEFT + ((width - LEFT - RIGHT) * (Math.log(Math.max(1, us)) - from)) / (to - from);
  const y = (part) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - part / (most * 1.05));
  const shapes = [
    { tag: "rect", key: "band", class: "band", x: x(band.low), y: TOP, width: x(band.high) - x(band.low), height: HEIGHT - TOP - BOTTOM },
  ];
  const tick = stepFor(most, 3);
  for (let part = 0; part <= most * 1.05; part += tick) {
    shapes.push(line(`y${part}`, "grid", LEFT, y(part), width - RIGHT, y(part)), label(`yt${part}`, LEFT - 6, y(part) + 4, percent(part), "end"));
  }
  let free = LEFT;
  for (let power = 1; power <= 1e8; power *= 10) {
    for (const us of [power, power * 2, power * 5]) {
      const where = x(us);
      if (where < free || where > width - RIGHT - 12) continue;
      free = where + 62;
      shapes.push(label(`x${us}`, where, HEIGHT - 6, us < 1000 ? `${us} µs` : `${us / 1000} ms`, "middle"));
    }
  }
  for (const bucket of buckets.filter((bucket) => bucket.count)) {
    const left = x(bucket.lowUs);
    shapes.push({
      tag: "rect", key: `b${bucket.lowUs}`, class: "bar", x: left + 0.5, y: y(bucket.count / count),
      width: Math.max(1, x(bucket.highUs) - left - 1), height: HEIGHT - BOTTOM - y(bucket.count / count),
    });
  }
  shapes.push(line("low", "bound", x(band.low), TOP, x(band.low), HEIGHT - BOTTOM), line("high", "bound", x(band.high), TOP, x(band.high), HEIGHT - BOTTOM));
  if (value !== null) {
    shapes.push(line("now", "now", x(value), TOP, x(value), HEIGHT - BOTTOM));
    shapes.push(label("nowt", x(value), TOP - 4, ms(value), x(value) > width - 80 ? "end" : "middle"));
  }
  draw(chart, shapes);
}

/** Rows only where somebody reads them. */
function rows(figure, items, key, texts) {
  const details = figure.querySelector("details");
  const shown = details.open ? items : [];
  keyed(details.querySelector("tbody"), shown, key, () => el("tr"), (row, item) => {
    cells(row, texts(item).map((text) => ({ text, class: "number" })));
  });
}

/** One row for each half minute, the newest first. */
export function timelineRows(figure, history, now) {
  const newest = [...history].reverse();
  const thinned = newest.filter((point, index) => index === 0 || Math.floor(point.atMs / 30000) !== Math.floor(newest[index - 1].atMs / 30000));
  rows(figure, thinned, (point) => point.atMs, (point) => [
    span(Math.max(0, now - point.atMs / 1000)), ms(point.valueUs), ms(point.lowUs), ms(point.highUs), rate(point.rateRps),
  ]);
}

export function histogramRows(figure, histogram) {
  rows(figure, histogram.buckets, (bucket) => bucket.lowUs, (bucket) => [
    ms(bucket.lowUs), ms(bucket.highUs), bucket.count, percent(bucket.count / histogram.count),
  ]);
}
