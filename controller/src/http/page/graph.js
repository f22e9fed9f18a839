// Draws the call graph by area, and lists all calls.

import { cells, el, keyed, say, set, svg, widthOf } from "./dom.js";
import { ms, percent, plural, rate } from "./format.js";
import { BOX, MOST_SERVICES, callerOf, failing, layOut, total } from "./layout.js";

/** More lines than this have no room for numbers; the table has them. */
const MOST_LABELS = 40;
/** Rows of the table at most. */
const MOST_ROWS = 300;
/** As the decision machine: more failed requests than this are trouble. */
const MANY_FAIL = 0.05;

let canvas = null;

export function showGraph(context) {
  const { round, names } = context;
  const host = document.getElementById("graph");
  const drawing = layOut(round);
  if (!canvas) {
    canvas = svg("svg", { role: "img" }, svg("g"), svg("g"), svg("g"), svg("g"));
    host.append(canvas);
  }
  const [areas, lines, boxes, labels] = canvas.children;
  const width = Math.max(drawing.width, widthOf(host) - 2);
  set(canvas, { width, height: drawing.height, viewBox: `0 0 ${width} ${drawing.height}`, "aria-label": inWords(drawing, names) });

  keyed(areas, drawing.strips, (strip) => strip.name,
    () => svg("g", {}, svg("rect", { x: 0, rx: 6 }), svg("text", { class: "area-name", x: BOX.side })),
    (node, strip) => {
      set(node.firstChild, { class: strip.edge ? "area edge" : "area", y: strip.y, width, height: strip.height });
      set(say(node.lastChild, strip.edge || strip.name === "cloud" ? strip.name : `${strip.name} (cloud)`), { y: strip.y + 20 });
    });
  keyed(lines, drawing.links, (link) => link.id,
    () => svg("path", {}, svg("title")),
    (node, link) => {
      const wan = link.from.area !== link.to.area;
      const fails = link.rate > 0 && link.failed / link.rate > MANY_FAIL;
      set(node, { class: `link${wan ? " wan" : ""}${fails ? " failing" : ""}`, d: path(link) });
      say(node.firstChild, `${title(link.from, names)} → ${title(link.to, names)}: ${number(link)}`);
    });
  keyed(boxes, drawing.nodes, (node) => node.id, box, (node, item) => fillBox(node, item, names));
  const labelled = drawing.links.length <= MOST_LABELS ? place(drawing.links, drawing.nodes) : [];
  keyed(labels, labelled, ({ link }) => link.id,
    () => svg("text", { class: "label", "text-anchor": "middle" }),
    (node, { link, x, y }) => set(say(node, number(link)), { x, y }));

  const note = [];
  if (drawing.hidden) {
    note.push(`The ${MOST_SERVICES} busiest of ${drawing.services} services are drawn one by one, the other ${drawing.hidden} as one box in each area.`);
  }
  if (drawing.links.length > MOST_LABELS) note.push("There are too many lines for numbers: the table below has them.");
  if (!drawing.links.length) note.push("No calls in the window.");
  say(document.getElementById("graph-note"), note.join(" "));
  showCalls(context);
}

function inWords(drawing, names) {
  const words = drawing.strips.map((strip) => {
    const inside = drawing.nodes.filter((node) => node.area === strip.name && node.service !== null && !node.rest);
    return `${strip.name}: ${inside.length ? inside.map((node) => names.of(node.service)).join(", ") : "no service"}`;
  });
  return `Call graph by area. ${words.join(". ")}. The table below lists all calls.`;
}

function title(node, names) {
  if (node.rest) return `other services in ${node.area}`;
  return `${node.service === null ? "users" : names.of(node.service)} in ${node.area}`;
}

function number(link) {
  return `${rate(link.rate)}/s${link.chosen ? ` · ${link.weight} %` : ""}`;
}

function corners(link) {
  const back = link.to.x <= link.from.x;
  const middle = BOX.height / 2;
  if (back) {
    // Down the right side and into the right side: a column that calls itself.
    const bend = 46 + Math.abs(link.from.x - link.to.x) / 4;
    const x1 = link.from.x + BOX.width;
    const x2 = link.to.x + BOX.width;
    const far = Math.max(x1, x2) + bend;
    return [[x1, link.from.y + middle], [far, link.from.y + middle], [far, link.to.y + middle], [x2, link.to.y + middle]];
  }
  const x1 = link.from.x + BOX.width;
  const x2 = link.to.x;
  const bend = Math.max(30, (x2 - x1) * 0.5);
  return [[x1, link.from.y + middle], [x1 + bend, link.from.y + middle], [x2 - bend, link.to.y + middle], [x2, link.to.y + middle]];
}

function path(link) {
  const [a, b, c, d] = corners(link).map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  return `M${a}C${b} ${c} ${d}`;
}

/** A point of the line, from 0 at the caller to 1. */
function along(link, t) {
  const [a, b, c, d] = corners(link);
  const mix = (i) => (1 - t) ** 3 * a[i] + 3 * (1 - t) ** 2 * t * b[i] + 3 * (1 - t) * t ** 2 * c[i] + t ** 3 * d[i];
  return [mix(0), mix(1)];
}

/**
 * Places for numbers: each on its line, at the first of some points where it covers no other and no box. Busy lines choose
 * first; a line without a free point has its number in its tooltip and in the table only.
 */
function place(links, boxes) {
  const taken = boxes.map((box) => ({ x: box.x + BOX.width / 2, y: box.y + BOX.height / 2, width: BOX.width, height: BOX.height }));
  const placed = [];
  for (const link of [...links].sort((a, b) => b.rate - a.rate)) {
    const width = 7 * number(link).length;
    const isFree = ([x, y]) => taken.every((other) => Math.abs(other.x - x) > (other.width + width) / 2 || Math.abs(other.y - y) > (other.height + 13) / 2);
    const point = [0.5, 0.58, 0.42, 0.66, 0.34, 0.74, 0.26, 0.82].map((t) => along(link, t)).find(isFree);
    if (!point) continue;
    const [x, y] = point;
    taken.push({ x, y, width, height: 13 });
    placed.push({ link, x: x.toFixed(1), y: (y + 4).toFixed(1) });
  }
  return placed;
}

function box() {
  return svg("g", {},
    svg("title"),
    svg("rect", { width: BOX.width, height: BOX.height, rx: 6 }),
    svg("text", { x: BOX.width / 2, y: 16, "text-anchor": "middle" }),
    svg("text", { class: "under", x: BOX.width / 2, y: 31, "text-anchor": "middle" }));
}

function fillBox(group, node, names) {
  const [tip, , name, under] = group.children;
  const replicas = node.instances.reduce((sum, instance) => sum + instance.replicas, 0);
  const phases = new Set(node.instances.map((instance) => instance.phase));
  const life = phases.has("failed") ? "failed" : phases.has("starting") ? "starting" : "ready";
  set(group, {
    class: `node ${node.service === null ? "user" : life}`,
    transform: `translate(${node.x} ${node.y})`,
  });
  let text = "users";
  if (node.rest) text = plural(new Set(node.instances.map((instance) => instance.service)).size, "more");
  else if (node.service !== null) text = names.of(node.service);
  if (node.rest) text = text.replace("mores", "more");
  say(name, text.length > 14 ? `${text.slice(0, 13)}…` : text);
  const count = node.service === null || node.rest ? "" : ` · ${plural(replicas, "pod")}`;
  say(under, life === "ready" || node.service === null || node.rest ? `${rate(node.rate)}/s${count}` : life);
  const reasons = node.instances.map((instance) => instance.reason).filter(Boolean).join("; ");
  say(tip, `${title(node, names)}: ${rate(node.rate)} requests/s${count}${reasons ? `. ${reasons}` : ""}`);
}

function showCalls({ round, names }) {
  const details = document.getElementById("calls");
  if (!details.open) return;
  const wanted = document.getElementById("calls-filter").value.trim().toLowerCase();
  const window = round.snapshot.window.secs + round.snapshot.window.nanos / 1e9;
  const all = round.snapshot.calls.map((call) => {
    const [service, area] = callerOf(call);
    return { call, area, caller: service === null ? "users" : names.of(service), callee: names.of(call.callee), rate: window ? total(call.outcomes) / window : 0 };
  });
  const found = all
    .filter((row) => [row.caller, row.area, row.callee, row.call.calleeArea ?? ""].some((text) => text.toLowerCase().includes(wanted)))
    .sort((a, b) => b.rate - a.rate);
  const shown = found.slice(0, MOST_ROWS);
  const text = wanted ? `${plural(found.length, "call")} of ${all.length} match.` : `${plural(all.length, "call")}.`;
  say(document.getElementById("calls-note"), `${text}${found.length > MOST_ROWS ? ` The ${MOST_ROWS} busiest are listed; filter for others.` : ""}`);
  keyed(document.getElementById("calls-rows"), shown,
    (row) => [row.caller, row.area, row.callee, row.call.calleeArea].join("\u0000"),
    () => el("tr"),
    (node, row) => {
      const { call } = row;
      const fails = failing(call.outcomes);
      const weight = call.calleeArea ? round.cluster.routing[call.callee]?.[row.area]?.[call.calleeArea] : undefined;
      cells(node, [
        { text: row.caller, head: "row" },
        { text: row.area },
        { text: row.callee },
        { text: call.calleeArea ?? "nowhere" },
        { text: rate(row.rate), class: "number" },
        { text: call.timed ? ms(call.sumUs / call.timed) : "–", class: "number" },
        { text: percent(fails), class: fails > MANY_FAIL ? "number bad" : "number" },
        { text: weight === undefined ? "–" : `${weight} %`, class: "number" },
      ]);
    });
}
