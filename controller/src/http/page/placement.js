// What runs where, and what it costs.

import { cells, el, keyed, say } from "./dom.js";
import { money, plural } from "./format.js";

/** Rows at most: a page, not an inventory. */
const MOST_ROWS = 500;

export function showPlacement({ round, names }) {
  const areas = [round.config.cloud, ...Object.keys(round.config.edges)];
  for (const instance of round.cluster.instances) if (!areas.includes(instance.area)) areas.push(instance.area);
  const services = new Map();
  for (const instance of round.cluster.instances) {
    if (!services.has(instance.service)) services.set(instance.service, new Map());
    services.get(instance.service).set(instance.area, instance);
  }
  const rows = [...services].sort(([a], [b]) => names.of(a).localeCompare(names.of(b), undefined, { numeric: true }));
  const shown = rows.slice(0, MOST_ROWS);
  cells(document.getElementById("placement-head"), [
    { text: "Service", head: "col" },
    ...areas.map((area) => ({ text: area, head: "col" })),
    { text: "CPU cores in use", head: "col", class: "number" },
  ]);
  keyed(document.getElementById("placement-rows"), shown, ([service]) => service, () => el("tr"), (row, [service, placed]) => {
    const cores = round.cpuCores[service];
    cells(row, [
      { text: names.of(service), head: "row" },
      ...areas.map((area) => cell(placed.get(area), round.cluster.routing[service]?.[area], area)),
      { text: cores === undefined ? "–" : cores.toFixed(2), class: "number" },
    ]);
  });
  costs(round, areas);
  const unavailable = Object.entries(round.cluster.unavailable ?? {}).map(([edge, why]) => `${edge} can run nothing now: ${why}.`);
  const more = rows.length > MOST_ROWS ? [`The first ${MOST_ROWS} of ${rows.length} services are listed.`] : [];
  say(document.getElementById("placement-note"), [...unavailable, ...more, "Weights are those of callers in that area."].join(" "));
}

function cell(instance, weights, area) {
  const own = weights?.[area] ?? 0;
  // Worth a word only where callers there have a choice, or one area serves what another runs.
  const share = weights && Object.keys(weights).length > 1 ? `, ${own} % stay` : "";
  if (!instance) return { text: "–" };
  if (instance.phase === "failed") {
    return { text: `failed${instance.reason ? `: ${instance.reason}` : ""}`, class: "bad" };
  }
  const wants = instance.autoscalerWants === undefined ? "" : ` of ${instance.autoscalerWants}`;
  const life = instance.phase === "ready" ? "" : `, ${instance.phase}`;
  return { text: `${instance.replicas}${wants} ${instance.replicas === 1 && !wants ? "replica" : "replicas"}${life}${share}` };
}

function costs(round, areas) {
  const known = round.costs?.areas ?? {};
  const line = (name, text) => ({ name, values: areas.map((area) => (known[area] ? text(known[area]) : "–")) });
  const lines = [
    line("Replicas", (cost) => plural(cost.replicas, "replica")),
    line("Instances, an hour", (cost) => money(cost.instancesPerHour)),
    line("Traffic from the cloud, an hour", (cost) => money(cost.trafficPerHour)),
    line("Cost, an hour", (cost) => money(cost.instancesPerHour + cost.trafficPerHour)),
  ];
  keyed(document.getElementById("placement-costs"), lines, ({ name }) => name, () => el("tr"), (row, { name, values }, ) => {
    const all = name.startsWith("Cost") && round.costs ? `all areas ${money(round.costs.perHour)}` : "";
    cells(row, [{ text: name, head: "row" }, ...values.map((text) => ({ text })), { text: all, class: "number" }]);
  });
}
