// The last decisions: why, what was expected, what came of it.

import { cells, el, facts, keyed, say } from "./dom.js";
import { between, money, ms, percent, plural, seconds, span, statistic } from "./format.js";
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
  const newest = all[0]?.decision.id;
  keyed(document.getElementById("decisions"), all, (item) => item.decision.id, (item) => card(item.decision.id === newest),
    (node, item) => fill(node, item, context));
}

/** A decision under way has no sentence of its own yet: the edge's tells of it. */
function sentenceOf(account, decision) {
  const told = account.decisions.find((told) => told.decision.id === decision.id);
  return told?.sentence ?? account.sentence;
}

function card(open) {
  return el("details", { class: "decision", open: open ? "" : null },
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

const WHY = {
  instanceFailed: "an instance at the edge failed",
  unfinished: "a move was found unfinished",
};

function why(trigger, names) {
  const share = () => `its share goes from ${trigger.from} % to ${trigger.to} %`;
  if (trigger.kind === "overload") {
    return `${names.in(trigger.service)} was overloaded: ${ms(trigger.ownNowUs)} inside, ${ms(trigger.ownBeforeUs)} before; ${share()}`;
  }
  if (trigger.kind === "overloadOver") return `${names.in(trigger.service)} was no longer overloaded: ${share()}`;
  return WHY[trigger.kind] ?? null;
}

function inputs(decision, names) {
  const { trigger, planned, after } = decision;
  const reading = trigger.reading;
  return [
    ["Why", why(trigger, names)],
    ["Measured before", reading ? `${statistic(trigger.statistic)} ${ms(reading.valueUs)} (${between(reading.lowUs, reading.highUs)})` : null],
    ["Window", reading ? `${plural(reading.requests, "request")} in ${span(seconds(reading.window))}` : null],
    ["Band then", reading ? between(trigger.unoffloadBelowUs, trigger.offloadAboveUs) : null],
    ["Asked for", reading ? ms(trigger.targetUs) : null],
    ["To the edge", decision.add.length ? names.list(decision.add) : null],
    ["Away from the edge", decision.remove.length ? names.list(decision.remove) : null],
    ["Chosen because", planned ? names.in(planned.reasons) : null],
    ["Cost an hour", planned ? `${money(planned.costBefore)} → ${money(planned.costAfter)}` : null],
    ["Considered", planned?.search ? considered(planned.search) : null],
    ["Runner-up", planned?.search?.runnerUp ? runnerUp(planned.search.runnerUp, names) : null],
    ["Predicted", planned ? ms(planned.predictedUs) : null],
    ["Measured after", after ? `${ms(after.reading.valueUs)} (${between(after.reading.lowUs, after.reading.highUs)})` : null],
    ["Prediction error", after ? ms(after.predictionErrorUs) : null],
    ["Result", outcome(decision.outcome)],
  ];
}

function considered({ evaluations, optimal, gap, exhausted, together }) {
  const proven = optimal ? "proven to be the cheapest" : `at most ${percent(gap)} could be saved`;
  const edges = together.length > 1 ? `, for ${together.join(", ")} together` : "";
  return `${plural(evaluations, "placement")}${edges}; ${proven}${exhausted ? "; the search was cut short" : ""}`;
}

const LOST = { slower: "it misses the target by more, or has no room", dearer: "it costs more", movesMore: "it moves more" };

function runnerUp({ add, remove, predictedUs, cost, lost }, names) {
  return `add ${names.list(add)}, remove ${names.list(remove)}: ${ms(predictedUs)}, ${money(cost)} an hour; ${LOST[lost] ?? lost}`;
}

const OUTCOMES = {
  running: "under way",
  recommended: "recommended, not done",
  kept: "kept",
  unverified: "kept; it could not be judged in time",
  rolledBack: "taken back",
  abandoned: "left where it was",
};

function outcome({ kind }) {
  return OUTCOMES[kind] ?? kind;
}
