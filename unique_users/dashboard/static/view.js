// What is looked at: all of it stands in the address, so that a view can be sent to somebody.

export const SECONDS = { "1h": 3600, "3h": 10800, "6h": 21600, "12h": 43200, "24h": 86400, "7d": 604800, "30d": 2592000,
  "90d": 7776000, "1y": 31622400, "5y": 158112000, "20y": 631152000 };

export const NAMES = { "1h": "last hour", "3h": "last 3 hours", "6h": "last 6 hours", "12h": "last 12 hours",
  "24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days", "90d": "last 90 days", "1y": "last year",
  "5y": "last 5 years", "20y": "last 20 years" };

// The ranges that make a readable chart of an interval, the first one is where it begins.
export const RANGES = {
  minute: ["3h", "1h", "6h", "12h", "24h", "7d"],
  "5 minutes": ["12h", "6h", "24h", "7d"],
  hour: ["7d", "24h", "30d"],
  day: ["30d", "90d", "1y"],
  week: ["1y", "90d"],
  month: ["5y", "1y"],
  year: ["20y"],
};

/** What an interval is called in the middle of a sentence: "5 minutes" are one bucket. */
export const one = (interval) => (interval === "5 minutes" ? "five minutes" : interval);

const isZone = (zone) => {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
};

/** The view in the address; what is missing or nonsense is as at first. On a narrow screen fewer minutes are readable. */
export function fromAddress(search, intervals, zone, narrow) {
  const asked = new URLSearchParams(search);
  const interval = intervals.includes(asked.get("interval")) ? asked.get("interval") : intervals[0];
  const [from, to] = ["from", "to"].map((name) => Date.parse(asked.get(name)) / 1000);
  const last = RANGES[interval].includes(asked.get("last")) ? asked.get("last") : RANGES[interval][narrow && interval === "minute" ? 1 : 0];
  return {
    interval,
    ...(from < to ? { from, to, last: "" } : { last }),
    zone: asked.get("zone") && isZone(asked.get("zone")) ? asked.get("zone") : zone,
    kiosk: asked.has("kiosk"),
  };
}

/** The address of a view. */
export function toAddress(view) {
  const parts = new URLSearchParams({ interval: view.interval });
  if (view.last) parts.set("last", view.last);
  else {
    parts.set("from", iso(view.from));
    parts.set("to", iso(view.to));
  }
  parts.set("zone", view.zone);
  return `?${parts}${view.kiosk ? "&kiosk" : ""}`;
}

/** 2026-11-28T13:41:00Z */
export const iso = (ts) => new Date(ts * 1000).toISOString().replace(".000", "");

/** The question to the server. */
export const question = (view) =>
  view.last ? { interval: view.interval, last: SECONDS[view.last] } : { interval: view.interval, from: view.from, to: view.to };
