// A card for each edge: what it does and why, its delay against the band.

import { el, facts, keyed, say, set, svg } from "./dom.js";
import { between, micros, ms, percent, plural, present, rate, seconds, span, statistic } from "./format.js";
import { drawHistogram, drawTimeline, histogramRows, timelineRows } from "./charts.js";

const PHASES = {
  observing: ["observing", "good"],
  alarmed: ["alarmed", "wait"],
  acting: ["acting", "busy"],
  verifying: ["verifying", "busy"],
  relieving: ["relieving", "busy"],
  rollingBack: ["rolling back", "bad"],
  coolingDown: ["cooling down", "good"],
  held: ["held", "wait"],
};

export const STEPS = [
  ["alarm", "outside the band"],
  ["decided", "decided"],
  ["instancesReady", "instances ready"],
  ["firstShiftedRequest", "first request shifted"],
  ["weightsFinal", "last weights in force"],
  ["verified", "effect judged"],
  ["finished", "finished"],
];

let said = "";

export function showEdges(host, context, announce) {
  const { round, names } = context;
  const edges = Object.keys(round.config.edges).map((name) => ({ name, account: round.edges[name] }));
  keyed(host, edges, (edge) => edge.name, card, (node, edge) => fill(node, edge, context));

  const kinds = edges
    .filter((edge) => edge.account)
    .map(({ name, account }) => [name, account.phase, account.held?.kind, account.plan?.id]);
  const kind = JSON.stringify(kinds);
  if (kind !== said) {
    said = kind;
    const told = edges.filter((edge) => edge.account);
    const sentences = told.map(({ name, account }) => `${name}: ${names.in(account.sentence)}.`).join(" ");
    const title = told.map(({ name, account }) => `${name} ${phase(account)[0]}`).join(", ");
    announce(sentences, `${title} · GMA`);
  }
}

function phase(account) {
  return PHASES[account.phase] ?? [account.phase, "wait"];
}

function table(caption, columns) {
  return el("details", { class: "data" },
    el("summary", {}, `${caption} as a table`),
    el("div", { class: "scroll", role: "region", "aria-label": `${caption}, scrolls`, tabindex: "0" },
      el("table", {},
        el("caption", { class: "hidden" }, caption),
        el("thead", {}, el("tr", {}, ...columns.map((column) => el("th", { scope: "col", class: "number" }, column)))),
        el("tbody"))));
}

function card(edge) {
  const id = `edge-${edge.name}`;
  return el("article", { class: "card", "aria-labelledby": id, "data-edge": edge.name },
    el("header", {}, el("h3", { id }, edge.name), el("span", { class: "chip" })),
    el("p", { class: "sentence" }),
    el("p", { class: "ends" }),
    el("p", { class: "complaint" }),
    el("dl"),
    el("p", { class: "progress" }),
    el("ol", { class: "steps", "aria-label": "Steps of the plan" }),
    el("div", { class: "charts" },
      el("figure", { class: "timeline" },
        el("figcaption"),
        svg("svg", { class: "chart", role: "img" }),
        table("Delay over time", ["Ago", "Delay", "from", "to", "Requests/s"])),
      el("figure", { class: "histogram" },
        el("figcaption"),
        svg("svg", { class: "chart", role: "img" }),
        table("Histogram", ["from", "to", "Requests", "Share"]))));
}

function fill(node, { name, account }, context) {
  const { round, names } = context;
  const part = (selector) => node.querySelector(selector);
  const objective = round.config.edges[name];
  const measured = round.snapshot.edges[name];
  const [word, tone] = account ? phase(account) : ["not evaluated yet", "wait"];
  set(say(part(".chip"), word), { "data-tone": tone });
  say(part(".sentence"), account ? names.in(account.sentence) : "no data yet");
  const ends = round.ends?.[name];
  const line = say(part(".ends"), ends ? `Ends ${names.in(ends)}.` : "");
  line.hidden = !ends;
  const complaint = say(part(".complaint"), account?.complaint ? `The platform says: ${account.complaint}` : "");
  complaint.hidden = !account?.complaint;

  const band = {
    low: micros(objective.band.unoffloadBelow),
    high: micros(objective.band.offloadAbove),
  };
  facts(part("dl"), [...numbers(account, measured, objective, band), ...moments(account, context)]);
  say(part(".progress"), names.in(account?.progress ?? "")).hidden = !account?.progress;
  steps(part(".steps"), account?.plan, context);

  const history = round.history?.[name] ?? [];
  const timeline = part(".timeline");
  const moves = decisionsOf(account).map((decision) => ({
    at: seconds(decision.times.decided),
    name: decision.trigger.direction ?? "back",
  }));
  say(timeline.querySelector("figcaption"), `Delay (${statistic(objective.statistic)}) with its interval, against the band; the last 10 minutes at most`);
  drawTimeline(timeline.querySelector("svg"), { history, band, moves, now: context.now, name });
  timelineRows(timeline, history, context.now);

  const histogram = round.histogram?.[name] ?? { windowMs: 0, count: 0, buckets: [] };
  const shape = part(".histogram");
  say(shape.querySelector("figcaption"), histogram.count
    ? `Delays of ${plural(histogram.count, "request")} in ${span(histogram.windowMs / 1000)}`
    : "Delays of requests: none in the window");
  drawHistogram(shape.querySelector("svg"), { histogram, band, value: account?.reading?.valueUs ?? null, name });
  histogramRows(shape, histogram);
}

export function decisionsOf(account) {
  if (!account) return [];
  const all = new Map(account.decisions.map((told) => [told.decision.id, told.decision]));
  if (account.plan) all.set(account.plan.id, account.plan);
  return [...all.values()];
}

function numbers(account, measured, objective, band) {
  const reading = account?.reading;
  const delay = present(measured?.userDelay);
  const key = `${objective.statistic}Us`;
  const value = reading ? reading.valueUs : delay?.[key];
  const outcomes = measured?.outcomes;
  const failed = outcomes ? outcomes.serverError + outcomes.noResponse : 0;
  const ended = outcomes ? failed + outcomes.ok + outcomes.clientError : 0;
  const coverage = measured?.coverage;
  const rtt = present(measured?.rtt);
  const age = present(measured?.reportAge);
  return [
    [`Delay (${statistic(objective.statistic)})`, value === undefined ? "not measured" : ms(value)],
    ["Interval", reading ? between(reading.lowUs, reading.highUs) : null],
    ["Band", between(band.low, band.high)],
    ["Requests", measured ? `${rate(measured.rateRps)}/s` : null],
    ["Failing", ended ? percent(failed / ended) : null],
    ["Round trip to the cloud", rtt ? ms(micros(rtt)) : null],
    ["Proxies heard", coverage?.expected ? `${coverage.heard} of ${coverage.expected}${coverage.blind ? `, ${coverage.blind} partly blind` : ""}` : null],
    ["Newest report", age ? `${span(seconds(age))} ago` : null],
  ];
}

function moments(account, { clock, now }) {
  const { since, until } = account ?? {};
  return [
    ["So since", since ? clock.text(since) : null],
    ["At the latest until", until && seconds(until) > now ? clock.text(until) : null],
  ];
}

function steps(list, plan, { clock }) {
  list.hidden = !plan;
  const rows = plan ? STEPS.filter(([key]) => plan.times[key] || !(key === "alarm" || (key === "instancesReady" && plan.add.length === 0))) : [];
  keyed(list, rows, ([key]) => key, () => el("li"), (node, [key, text]) => {
    const time = plan.times[key];
    set(node, { "data-done": time ? "yes" : "no" });
    say(node, time ? `${text}, ${clock.text(time)}` : `${text}: not yet`);
  });
}
