// Numbers and names for people.

/** Seconds of a `{secs, nanos}`; null of nothing. */
export function seconds(duration) {
  return duration ? duration.secs + duration.nanos / 1e9 : null;
}

/** Milliseconds of microseconds. */
export function ms(us) {
  if (us === null || us === undefined) return "–";
  const value = us / 1000;
  return `${value.toFixed(value >= 1000 ? 0 : 1)} ms`;
}

/** `60.0 – 120.0 ms` of microseconds. */
export function between(low, high) {
  return `${ms(low).replace(" ms", "")} – ${ms(high)}`;
}

/** Microseconds of a `{secs, nanos}`. */
export function micros(duration) {
  return seconds(duration) * 1e6;
}

export function rate(perSecond) {
  if (perSecond >= 100) return perSecond.toFixed(0);
  return perSecond.toFixed(perSecond >= 10 ? 1 : 2);
}

export function percent(share) {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

export function money(value) {
  return value.toFixed(Math.abs(value) >= 1 ? 2 : 4);
}

export function span(secs) {
  if (secs < 90) return `${secs.toFixed(secs < 10 ? 1 : 0)} s`;
  if (secs < 5400) return `${Math.round(secs / 60)} min`;
  return `${(secs / 3600).toFixed(1)} h`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** The measured value of a `Measured`, or null. */
export function present(measured) {
  return measured && measured.state === "present" ? measured.value : null;
}

/** Statistic of a decision or an objective, for people. */
export function statistic(name) {
  return name === "mean" ? "mean" : name.replace("p", "percentile ");
}

const CLUSTER = ".svc.cluster.local";

/** Short names of hosts: without what all of them share, the cluster's suffix and a single namespace. */
export class Names {
  constructor(hosts) {
    this.short = new Map();
    const bare = [...hosts].map((host) => [host, host.endsWith(CLUSTER) ? host.slice(0, -CLUSTER.length) : host]);
    const spaces = new Set(bare.map(([, name]) => name.slice(name.indexOf(".") + 1 || name.length)));
    for (const [host, name] of bare) {
      const dot = name.indexOf(".");
      this.short.set(host, spaces.size === 1 && dot > 0 ? name.slice(0, dot) : name);
    }
    // The longest first: one host's name may be the end of another's.
    this.longest = [...this.short].filter(([host, name]) => host !== name).sort(([a], [b]) => b.length - a.length);
  }

  of(host) {
    return this.short.get(host) ?? host;
  }

  list(hosts) {
    return hosts.length ? hosts.map((host) => this.of(host)).join(", ") : "none";
  }

  /** A sentence with short names in it. */
  in(text) {
    if (!text.includes(CLUSTER)) return text;
    const short = this.longest.reduce((sentence, [host, name]) => sentence.replaceAll(host, name), text);
    // A service that is gone is in no list; its namespace stays.
    return short.replaceAll(CLUSTER, "");
  }
}

/** The controller's clock counts from its start; this puts its times on the reader's. */
export class Clock {
  constructor() {
    this.offset = null;
  }

  /** Takes the controller's time of a message that has just come. */
  heard(secs) {
    const offset = Date.now() / 1000 - secs;
    // A message that came a little later is no news of the clocks.
    if (this.offset === null || Math.abs(offset - this.offset) > 2) this.offset = offset;
  }

  text(duration) {
    return new Date((seconds(duration) + this.offset) * 1000).toLocaleTimeString([], { hour12: false });
  }
}
