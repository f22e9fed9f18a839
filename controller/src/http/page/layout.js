// Where things of the call graph go. Pure: from a round to boxes and lines.
//
// An area is a strip; edges above, the cloud below. A column is the depth of a service, the same in every area, so a
// service at an edge stands above itself in the cloud.

/** More services than this are too many to read: the busiest are drawn, the rest is one box an area. */
export const MOST_SERVICES = 24;

const REST = "\u0000rest";

export const BOX = { width: 104, height: 38, column: 224, row: 56, head: 30, side: 14 };

/** Caller as [service or null for users, area]. */
export function callerOf(call) {
  return call.caller.user ? [null, call.caller.user.edge] : [call.caller.instance.service, call.caller.instance.area];
}

export function failing(outcomes) {
  const failed = outcomes.serverError + outcomes.noResponse;
  const ended = failed + outcomes.ok + outcomes.clientError;
  return ended ? failed / ended : 0;
}

export function total(outcomes) {
  return Object.values(outcomes).reduce((sum, count) => sum + count, 0);
}

/** Services by what they receive, busiest first, and those that are drawn one by one. */
function busiest(round) {
  const load = new Map(round.cluster.instances.map((instance) => [instance.service, 0]));
  for (const call of round.snapshot.calls) {
    load.set(call.callee, (load.get(call.callee) ?? 0) + total(call.outcomes));
  }
  const services = [...load].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([service]) => service);
  return { services, drawn: new Set(services.slice(0, MOST_SERVICES)) };
}

/** Longest way from the users; calls that close a circle don't count. */
function depths(links) {
  const callees = new Map();
  for (const link of links) {
    const from = link.from.service;
    if (from === link.to.service) continue;
    if (!callees.has(from)) callees.set(from, new Set());
    callees.get(from).add(link.to.service);
  }
  const order = [];
  const state = new Map();
  const visit = (service) => {
    state.set(service, "open");
    for (const callee of callees.get(service) ?? []) {
      if (state.get(callee) === "open") callees.get(service).delete(callee);
      else if (!state.has(callee)) visit(callee);
    }
    state.set(service, "done");
    order.push(service);
  };
  visit(null);
  for (const service of [...callees.keys()]) if (!state.has(service)) visit(service);
  const depth = new Map();
  for (const service of order.reverse()) {
    const own = depth.get(service) ?? (service === null ? 0 : 1);
    depth.set(service, own);
    for (const callee of callees.get(service) ?? []) {
      depth.set(callee, Math.max(depth.get(callee) ?? 0, own + 1));
    }
  }
  return depth;
}

/** Boxes and lines between them, without places. */
function collect(round, drawn) {
  const window = round.snapshot.window.secs + round.snapshot.window.nanos / 1e9;
  const nodes = new Map();
  const node = (service, area) => {
    const shown = service === null || drawn.has(service) ? service : REST;
    const id = `${shown ?? ""}@${area}`;
    if (!nodes.has(id)) nodes.set(id, { id, service: shown, area, rest: shown === REST, rate: 0, instances: [] });
    return nodes.get(id);
  };
  for (const edge of Object.keys(round.config.edges)) node(null, edge);
  for (const instance of round.cluster.instances) node(instance.service, instance.area).instances.push(instance);
  const links = new Map();
  for (const call of round.snapshot.calls) {
    if (!call.calleeArea) continue;
    const from = node(...callerOf(call));
    const to = node(call.callee, call.calleeArea);
    const rate = window > 0 ? total(call.outcomes) / window : 0;
    to.rate += rate;
    if (from.service === null) from.rate += rate;
    const id = `${from.id}>${to.id}`;
    const link = links.get(id) ?? { id, from, to, rate: 0, failed: 0, weight: null };
    link.failed += failing(call.outcomes) * rate;
    link.rate += rate;
    const weights = round.cluster.routing[call.callee]?.[from.area];
    link.weight = to.rest || !weights ? null : (weights[to.area] ?? 0);
    link.chosen = link.weight !== null && Object.keys(weights).length > 1;
    links.set(id, link);
  }
  return { nodes: [...nodes.values()], links: [...links.values()].filter((link) => link.from !== link.to) };
}

/** The drawing of a round. */
export function layOut(round) {
  const { services, drawn } = busiest(round);
  const { nodes, links } = collect(round, drawn);
  const depth = depths(links);
  const deepest = Math.max(0, ...depth.values());
  const areas = [...Object.keys(round.config.edges), round.config.cloud];
  for (const node of nodes) {
    if (!areas.includes(node.area)) areas.push(node.area);
    node.column = node.rest ? deepest + 1 : (depth.get(node.service) ?? deepest + 1);
  }
  // A service has the same rank among those of its depth everywhere, so lines between areas cross little.
  const columns = Math.max(1, ...nodes.map((node) => node.column + 1));
  const rank = new Map();
  for (let column = 0; column < columns; column += 1) {
    const here = [...new Set(nodes.filter((node) => node.column === column).map((node) => node.service))];
    here.sort((a, b) => services.indexOf(a) - services.indexOf(b));
    here.forEach((service, row) => rank.set(service, row));
  }
  let top = 0;
  const strips = areas.map((name) => {
    const inside = nodes.filter((node) => node.area === name);
    inside.sort((a, b) => a.column - b.column || rank.get(a.service) - rank.get(b.service));
    let most = 1;
    inside.forEach((node, index) => {
      node.row = index > 0 && inside[index - 1].column === node.column ? inside[index - 1].row + 1 : 0;
      node.x = BOX.side + node.column * BOX.column;
      node.y = top + BOX.head + node.row * BOX.row;
      most = Math.max(most, node.row + 1);
    });
    const height = BOX.head + most * BOX.row;
    const strip = { name, edge: name !== round.config.cloud, y: top, height, empty: inside.length === 0 };
    top += height + 10;
    return strip;
  });
  return {
    nodes, links, strips,
    hidden: Math.max(0, services.length - drawn.size),
    services: services.length,
    width: BOX.side * 2 + (columns - 1) * BOX.column + BOX.width,
    height: top - 10,
  };
}
