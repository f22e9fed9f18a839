// Follows the controller and hands each view to the parts of the page.

import { say, set } from "./dom.js";
import { Clock, Names, seconds } from "./format.js";
import { showEdges } from "./edges.js";
import { showGraph } from "./graph.js";
import { showPlacement } from "./placement.js";
import { showDecisions } from "./decisions.js";

/** Without news for this long the page says so; rounds come twice a second, comments count for nothing here. */
const SILENT_AFTER = 5;
/** A browser gives up following after an answer such as 503; the page does not. */
const TRY_AGAIN_MS = 3000;

const clock = new Clock();
let source = null;
let heardAt = null;
let view = null;
let drawing = false;
let lost = false;

const at = (id) => document.getElementById(id);

function follow() {
  // ?object=NAMESPACE/NAME of the page is that of the events.
  source = new EventSource(`api/v1/events${window.location.search}`);
  source.onopen = () => {
    lost = false;
    watch();
  };
  source.onmessage = (message) => {
    lost = false;
    heardAt = performance.now();
    view = JSON.parse(message.data);
    clock.heard(seconds(view.now));
    draw();
  };
  source.onerror = () => {
    lost = true;
    watch();
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, TRY_AGAIN_MS);
  };
}

/** Draws at the next frame, the newest view only. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (view?.round) show(view.round);
    watch();
  });
}

function show(round) {
  const names = new Names(new Set([
    ...round.cluster.instances.map((instance) => instance.service),
    ...round.snapshot.calls.map((call) => call.callee),
  ]));
  const context = { round, names, clock, now: seconds(view.now) };
  at("nothing").hidden = Object.keys(round.edges).length > 0;
  say(at("nothing"), "No edge was evaluated yet.");
  say(at("about"), `Keeps the delay of edge users inside a band. Mode: ${round.config.mode}.`);
  say(at("version"), `GMA ${round.version}.`);
  showEdges(at("edges"), context, announce);
  showGraph(context);
  showPlacement(context);
  showDecisions(context);
}

/** For screen readers: what changed in kind, not every number. */
function announce(sentences, title) {
  say(at("announce"), sentences);
  if (document.title !== title) document.title = title;
}

/** Says how fresh the page is. */
function watch() {
  const silent = heardAt === null ? null : (performance.now() - heardAt) / 1000;
  const old = silent === null ? "" : ` What is shown is ${Math.round(silent)} s old.`;
  let state = "live";
  let text = "Live";
  if (lost) {
    state = "lost";
    text = `Connection lost, trying again.${old}`;
  } else if (silent === null) {
    state = "waiting";
    text = source?.readyState === EventSource.OPEN ? "Connected, no data yet" : "Connecting…";
  } else if (silent > SILENT_AFTER) {
    state = "silent";
    text = `Connected, no news.${old}`;
  }
  const line = at("connection");
  set(line, { "data-state": state });
  // Seconds count up: a reader hears the change of state, not each of them.
  set(line, { "aria-live": line.dataset.said === state ? "off" : "polite" });
  say(line, text);
  line.dataset.said = state;
  set(document.querySelector("main"), { "data-stale": state === "live" || state === "waiting" ? "no" : "yes" });
  if (state === "waiting" && source?.readyState === EventSource.OPEN) {
    say(at("nothing"), "No data yet: the controller has not seen its platform.");
  }
}

follow();
setInterval(watch, 1000);
new ResizeObserver(draw).observe(document.body);
at("calls-filter").addEventListener("input", draw);
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", draw);
