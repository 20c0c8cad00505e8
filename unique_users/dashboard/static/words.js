// Numbers, times and states in words. No DOM here.

const number = new Intl.NumberFormat("en-US");

/** A whole number with separators; a dash for one that is not known. */
export const count = (value) => (value === null || value === undefined ? "–" : number.format(Math.round(value)));

/** A difference with its sign, such as +12 or −3; the typographic minus is as wide as the plus. */
export const signed = (value) => (value < 0 ? `−${number.format(-value)}` : `+${number.format(value)}`);

/** How much one number is above another, such as "+1.2 %"; empty if that says nothing. */
export function above(value, other) {
  if (!other) return "";
  const percent = ((value - other) / other) * 100;
  const text = Math.abs(percent).toFixed(Math.abs(percent) < 10 ? 1 : 0);
  return `${percent < 0 ? "−" : "+"}${text} %`;
}

const formats = new Map();

function formatter(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  return formats.get(key);
}

const two = "2-digit";

/** 13:41 */
export const clock = (ts, zone) => formatter(zone, { hour: two, minute: two }).format(ts * 1000);
/** 13:41:07 */
export const clockWithSeconds = (ts, zone) =>
  formatter(zone, { hour: two, minute: two, second: two }).format(ts * 1000);
/** 28 Nov */
export const dayAndMonth = (ts, zone) => formatter(zone, { day: "numeric", month: "short" }).format(ts * 1000);
/** 28 Nov 2026 */
export const date = (ts, zone) =>
  formatter(zone, { day: "numeric", month: "short", year: "numeric" }).format(ts * 1000);

/** The zone's name as a person writes it: UTC, or Berlin's as GMT+1. */
export function zoneName(ts, zone) {
  if (zone === "UTC") return "UTC";
  const parts = formatter(zone, { timeZoneName: "short" }).formatToParts(ts * 1000);
  return parts.find((part) => part.type === "timeZoneName").value;
}

const LONG = new Set(["day", "week", "month", "year"]);

/** The window of a bucket: "13:41 to 13:42 UTC", with its date if that is not today's. */
export function windowOf(row, interval, zone, today) {
  const [start, end] = row;
  if (LONG.has(interval)) {
    const last = date(end - 1, zone);
    return interval === "day" && date(start, zone) === last ? last : `${date(start, zone)} to ${last}`;
  }
  const name = zoneName(start, zone);
  const day = today !== undefined && date(today, zone) === date(start, zone) ? "" : `${date(start, zone)}, `;
  return `${day}${clock(start, zone)} to ${clock(end, zone)} ${name}`;
}

const REASONS = {
  state_lost: "a counter's state was lost: maybe too low",
  records_deleted: "records were deleted before they were read: maybe too low",
  records_unreadable: "records could not be read: maybe too low",
  filled_late: "counted from the middle on: maybe too low",
  log_cut_back: "the log lost records that were counted: maybe too high",
  count_removed: "part of the count was removed because of its age: maybe too low",
};

/** Why a bucket is not whole. */
export const why = (reasons) => reasons.map((reason) => REASONS[reason] ?? reason.replaceAll("_", " ")).join("; ");

/** What a bucket had at its end, in words. `settled`: the stream's clock has passed its end for a while.
 * Of an estimate its bounds: who came late cannot be told from who was there. */
export function atEnd(row, settled) {
  const [, , users, at, lower, upper] = row;
  if (lower !== null) return `An estimate, between ${count(lower)} and ${count(upper)}`;
  if (at === null) return settled ? "What it had at its end is not known" : "What it had at its end is not known yet";
  const late = users - at;
  return late ? `${count(at)} at its end, ${signed(late)} since` : `${count(at)} at its end, none since`;
}

/** The state line. */
export function state(told, zone) {
  const since = told.since === null ? "" : ` since ${clockWithSeconds(told.since, zone)} ${zoneName(told.since, zone)}`;
  switch (told.kind) {
    case "live":
      return `Live, ${count(told.frames_per_second)} frames per second`;
    case "catching up": {
      const behind = told.behind_seconds ? `, ${count(told.behind_seconds)} s behind` : "";
      return `Catching up: ${count((told.unread ?? 0) + (told.uncounted ?? 0))} wait to be counted${behind}`;
    }
    case "no new frames":
      return since ? `No new frames${since}` : "No frame has come yet";
    case "bucketer silent":
      return `Bucketer silent${since}: ${count(told.unread)} frames wait`;
    case "counter silent":
      return `Counter silent${since}: ${count(told.uncounted)} records wait`;
    case "broker silent":
      return `Kafka broker silent${since}`;
    case "no topic":
      return `Waiting for ${told.missing.length > 1 ? "the topics" : "the topic"} ${told.missing.join(", ")}, which Kafka does not have`;
    case "lost":
      return `This page has lost its server${since}, and tries again`;
    default:
      return "Connecting to Kafka";
  }
}

/** Epoch seconds of a local time such as 2026-11-28T13:41 in a zone. */
export function epochOf(local, zone) {
  const wanted = Date.parse(`${local}Z`) / 1000;
  // Twice: the first guess may lie on the other side of a change of the clock.
  let ts = wanted - offsetOf(wanted, zone);
  ts = wanted - offsetOf(ts, zone);
  return ts;
}

/** The local time of epoch seconds in a zone, as a form takes it. */
export const localOf = (ts, zone) => new Date((ts + offsetOf(ts, zone)) * 1000).toISOString().slice(0, 16);

function offsetOf(ts, zone) {
  const options = { year: "numeric", month: two, day: two, hour: two, minute: two, second: two };
  const parts = Object.fromEntries(formatter(zone, options).formatToParts(ts * 1000).map((p) => [p.type, Number(p.value)]));
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) / 1000 - ts;
}
