// The last decisions: why, what was expected, what came of it.

import { cells, el, facts, keyed, say } from "./dom.js";
import { money, ms, plural, seconds, span, statistic } from "./format.js";
import { STEPS, decisionsOf } from "./edges.js";

/** Decisions shown, of all edges together. */
const MOST = 20;

export function showDecisions(context) {
  const { round } = context;
  const all = Object.entries(round.edges)
    .flatMap(([edge, account]) => decisionsOf(account).map((decision) => ({ edge, decision, sentence: sentenceOf(account, decision) })))
    .sort((a, b) => b.decision.id - a.decision.id)
    .slice(0, MOST);
  document.getElementById("decisions-note").hidden = all.length > 0;
  keyed(document.getElementById("decisions"), all, (item) => item.decision.id, card, (node, item) => fill(node, item, context));
}

/** A decision under way has no sentence of its own yet: the edge's tells of it. */
function sentenceOf(account, decision) {
  const told = account.decisions.find((told) => told.decision.id === decision.id);
  return told?.sentence ?? account.sentence;
}

function card() {
  return el("details", { class: "decision" },
    el("summary", {}, el("strong"), el("span", { class: "what" }), el("span", { class: "when" })),
    el("dl"),
    el("h4", {}, "Steps"),
    el("table", {}, el("caption", { class: "hidden" }, "Steps of the decision"), el("tbody")));
}

function fill(node, { edge, decision, sentence }, { names, clock }) {
  say(node.querySelector("strong"), `#${decision.id} at ${edge}: `);
  say(node.querySelector(".what"), names.in(sentence));
  say(node.querySelector(".when"), ` ${clock.text(decision.times.decided)}`);
  facts(node.querySelector("dl"), inputs(decision, names));
  const begin = decision.times.alarm ?? decision.times.decided;
  const steps = STEPS.filter(([key]) => decision.times[key]);
  keyed(node.querySelector("tbody"), steps, ([key]) => key, () => el("tr"), (row, [key, text]) => {
    const time = decision.times[key];
    cells(row, [
      { text, head: "row" },
      { text: clock.text(time) },
      { text: `+${span(Math.max(0, seconds(time) - seconds(begin)))}`, class: "number" },
    ]);
  });
}

function inputs(decision, names) {
  const { trigger, planned, after } = decision;
  const reading = trigger.reading;
  return [
    ["Why", reading ? null : trigger.kind === "instanceFailed" ? "an instance at the edge failed" : "a move was found unfinished"],
    ["Measured before", reading ? `${statistic(trigger.statistic)} ${ms(reading.valueUs)} (${ms(reading.lowUs)} – ${ms(reading.highUs)})` : null],
    ["Window", reading ? `${plural(reading.requests, "request")} in ${span(seconds(reading.window))}` : null],
    ["Band then", reading ? `${ms(trigger.unoffloadBelowUs)} – ${ms(trigger.offloadAboveUs)}` : null],
    ["Asked for", reading ? ms(trigger.targetUs) : null],
    ["To the edge", decision.add.length ? names.list(decision.add) : null],
    ["Away from the edge", decision.remove.length ? names.list(decision.remove) : null],
    ["Chosen because", planned ? names.in(planned.reasons) : null],
    ["Cost an hour", planned ? `${money(planned.costBefore)} → ${money(planned.costAfter)}` : null],
    ["Predicted", planned ? ms(planned.predictedUs) : null],
    ["Measured after", after ? `${ms(after.reading.valueUs)} (${ms(after.reading.lowUs)} – ${ms(after.reading.highUs)})` : null],
    ["Prediction error", after ? ms(after.predictionErrorUs) : null],
    ["Result", outcome(decision.outcome)],
  ];
}

const OUTCOMES = {
  running: "under way",
  recommended: "recommended, not done",
  kept: "kept",
  unverified: "kept; it could not be judged in time",
  rolledBack: "taken back",
  abandoned: "abandoned",
};

function outcome({ kind }) {
  return OUTCOMES[kind] ?? kind;
}
