// Puts the page together: the view in the address, what the server says, and what of it is shown where.

import { Chart } from "./chart.js";
import { connect } from "./live.js";
import { NAMES, RANGES, fromAddress, iso, one, question, toAddress } from "./view.js";
import * as words from "./words.js";

const byId = (id) => document.getElementById(id);
const [START, END, USERS, AT_END, WHY] = [0, 1, 2, 3, 6];
const TABLE_ROWS_MAX = 500;
const SETTLED_SECONDS = 120; // of event time after its end: then a bucket's value at its end has come, or never will
const OTHER_RANGE = "other";
const NARROW = 600; // pixels

let intervals = [];
let view; // what is looked at
let rows = new Map(); // by start
let range = [0, 0];
let figures = {};
let told = { kind: "starting", since: null }; // what the server said last of the pipeline
let lostAt = null;
let complete = true;
let since = []; // the changes that came since the view was asked for
let spokenClosed = null;
let drawing = false;

const chart = new Chart(byId("chart"), showPicked);
const ask = connect({ message, lost });

document.documentElement.dataset.ready = "";

// What the server says.

function message(said) {
  if (said.type === "hello") hello(said);
  else if (said.type === "view") take(said);
  else if (said.type === "changes") change(said);
  else if (said.type === "state") stateIs(said);
  else if (said.type === "trouble") trouble(said.text);
}

function hello(said) {
  const first = !view;
  intervals = said.intervals;
  if (first) {
    view = fromAddress(location.search, intervals, "UTC", innerWidth < NARROW);
    document.body.classList.toggle("kiosk", view.kiosk);
    fillControls(said.timezone);
  }
  askForView();
}

function askForView() {
  since = [];
  ask(question(view));
}

function take(said) {
  if (said.interval !== view.interval) return;
  trouble("");
  rows = new Map(said.rows.map((row) => [row[START], row]));
  range = [said.from, said.to];
  figures = said.figures;
  complete = said.complete;
  for (const changes of since) merge(changes);
  draw();
}

function change(said) {
  if (!view || said.interval !== view.interval) return;
  since.push(said);
  if (since.length > 1000) since = [];
  merge(said);
  draw();
}

function merge(said) {
  for (const row of said.rows) {
    if (row.length === 1) rows.delete(row[START]);
    else rows.set(row[START], row);
  }
  figures = said.figures;
  const opened = figures.open;
  if (view.last && opened && opened[END] > range[1]) range = [range[0] + opened[END] - range[1], opened[END]];
}

function stateIs(said) {
  const changed = said.kind !== told.kind;
  told = said;
  if (lostAt !== null || changed) speak(words.state(told, zone()));
  lostAt = null;
  showState();
}

function lost() {
  if (lostAt !== null) return;
  lostAt = Math.floor(Date.now() / 1000);
  showState();
  speak(words.state({ kind: "lost", since: lostAt }, zone()));
}

function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

// What is shown.

const zone = () => view?.zone ?? "UTC";
const set = (id, text) => {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
};

/** Draw once, however much was said before the next frame. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    showFigures();
    showChart();
    showTable();
    showLinks();
  });
}

function visible() {
  return [...rows.values()].filter((row) => row[START] >= range[0] && row[START] < range[1])
    .sort((one, other) => one[START] - other[START]);
}

function showChart() {
  const shown = visible();
  const nothing = complete ? "No users in this range." : "Reading the counts …";
  performance.mark("redraw");
  chart.show(shown, range, figures.open?.[START], zone(), nothing);
  queueMicrotask(() => performance.measure("redraw", "redraw")); // after the chart's own task, which draws
  byId("legend-mark").hidden = !shown.some((row) => row[WHY].length);
  byId("legend-unknown").hidden = !shown.some((row) => row[AT_END] === null && row[START] !== figures.open?.[START]);
  byId("legend-estimate").hidden = !shown.some((row) => row[4] !== null);
  const slider = byId("chart");
  slider.setAttribute("aria-valuemax", Math.max(0, shown.length - 1));
  if (chart.place === null) showPicked(null);
}

function showFigures() {
  const { open, closed, before, earlier } = figures;
  const today = open?.[START];
  const of = (row) => (row ? words.windowOf(row, view.interval, zone(), today) : "");
  set("per", `per ${one(view.interval)}`);
  set("closed-name", `Last closed ${one(view.interval)}`);
  set("closed", words.count(closed?.[USERS]));
  set("closed-window", of(closed) + notWhole(closed));
  set("closed-late", closed ? words.atEnd(closed, settled(closed)) : "");
  set("open", words.count(open?.[USERS]));
  set("open-window", open ? `${of(open)}, still open${notWhole(open)}` : "Nothing has been counted yet");
  set("before", words.count(before?.[USERS]));
  set("before-window", of(before));
  set("before-change", growth(closed, before));
  set("earlier-name", view.interval === "day" ? "A week earlier" : "A day earlier");
  byId("earlier-figure").hidden = ["week", "month", "year"].includes(view.interval);
  set("earlier", words.count(earlier?.[USERS]));
  set("earlier-window", earlier ? of(earlier) : "Not known");
  set("earlier-change", growth(closed, earlier));
  document.title = closed ? `${words.count(closed[USERS])} unique users` : "Unique users";
  if (closed && spokenClosed !== null && closed[START] > spokenClosed) {
    speak(`${of(closed)}: ${words.count(closed[USERS])} unique users`);
  }
  spokenClosed = closed?.[START] ?? spokenClosed;
}

const notWhole = (row) => (row?.[WHY].length ? `, not whole: ${words.why(row[WHY])}` : "");
const settled = (row) => told.clock !== null && told.clock !== undefined && told.clock > row[END] + SETTLED_SECONDS;

function growth(closed, other) {
  const difference = closed && other && words.above(closed[USERS], other[USERS]);
  return difference ? `${difference} since then` : "";
}

function sentence(row) {
  const parts = [`${words.windowOf(row, view.interval, zone())}: ${words.count(row[USERS])} unique users`];
  const opened = row[START] === figures.open?.[START];
  if (opened) parts.push("still open");
  if (!opened || row[4] !== null) parts.push(words.atEnd(row, settled(row)).replace(/^(What|An)/, (word) => word.toLowerCase()));
  if (row[WHY].length) parts.push(`not whole: ${words.why(row[WHY])}`);
  return parts.join("; ");
}

function showPicked(place) {
  const row = place === null ? null : chart.rows[place];
  const text = row ? sentence(row) : "";
  set("readout", text || "\u00a0");
  const slider = byId("chart");
  if (row) slider.setAttribute("aria-valuenow", place);
  slider.setAttribute("aria-valuetext", text || `${chart.rows.length} values; the arrow keys read them`);
}

function showState() {
  const kind = lostAt === null ? told : { kind: "lost", since: lostAt };
  byId("state").dataset.kind = kind.kind;
  set("state-text", words.state(kind, zone()));
  set("rate", told.frames_per_second === null ? "–" : words.count(told.frames_per_second));
  const known = told.unread !== null && told.unread !== undefined;
  set("waiting", known ? words.count(told.unread + told.uncounted) : "–");
  set("waiting-detail", known ? `${words.count(told.unread)} for a bucketer, ${words.count(told.uncounted)} for a counter` : "Not known");
  const rejected = told.rejected && Object.values(told.rejected).reduce((sum, number) => sum + number, 0);
  set("rejected", rejected === null || rejected === undefined ? "–" : words.count(rejected));
  set("rejected-detail", told.rejected ? rejectedWords(told.rejected, told.read) : "Not known");
}

function rejectedWords(rejected, read) {
  const reasons = Object.entries(rejected).sort(([, one], [, other]) => other - one);
  const named = reasons.map(([reason, number]) => `${reason.replaceAll("_", " ")} ${words.count(number)}`);
  return `of ${words.count(read)} frames read${named.length ? `: ${named.join(", ")}` : ""}`;
}

function showTable() {
  if (!byId("as-table").open) return;
  const newest = visible().reverse().slice(0, TABLE_ROWS_MAX);
  byId("rows").replaceChildren(...newest.map((row) => {
    const opened = row[START] === figures.open?.[START];
    const cells = [
      ...tableTimes(row),
      words.count(row[USERS]) + (row[4] === null ? "" : ` (${words.count(row[4])} to ${words.count(row[5])})`),
      opened ? "" : row[AT_END] === null ? "not known" : words.count(row[AT_END]),
      row[AT_END] === null || opened ? "" : words.signed(row[USERS] - row[AT_END]),
      [opened ? "still open" : "", row[WHY].length ? `not whole: ${words.why(row[WHY])}` : ""].filter(Boolean).join("; "),
    ];
    const line = document.createElement("tr");
    line.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return line;
  }));
}

function tableTimes(row) {
  const long = ["day", "week", "month", "year"].includes(view.interval);
  return [row[START], row[END]].map((ts) =>
    words.date(ts, zone()) + (long ? "" : `, ${words.clock(ts, zone())} ${words.zoneName(ts, zone())}`));
}

function showLinks() {
  const parts = new URLSearchParams({ interval: view.interval, from: iso(range[0]), to: iso(range[1]) });
  byId("json").href = `api/counts?${parts}`;
  byId("csv").href = `api/counts?${parts}&format=csv`;
  byId("kiosk-link").href = toAddress({ ...view, kiosk: true });
}

function speak(text) {
  set("spoken", text);
}

// What can be chosen.

function fillControls(timezone) {
  const local = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = [...new Set(["UTC", timezone, local, view.zone])];
  options("interval", intervals.map((name) => [name, name]));
  byId("interval").parentElement.hidden = intervals.length < 2;
  options("zone", zones.map((name) => [name, name]));
  byId("controls").addEventListener("change", (event) => {
    if (["interval", "last", "zone"].includes(event.target.id)) choose(event.target.id, event.target.value);
  });
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    const [from, to] = ["from", "to"].map((id) => byId(id).value && words.epochOf(byId(id).value, zone()));
    if (from && to && from < to) changeView({ last: "", from, to });
    else trouble("Choose a start and an end that is after it.");
  });
  byId("as-table").addEventListener("toggle", showTable);
  byId("chart").addEventListener("keydown", keys);
  byId("chart").addEventListener("blur", () => chart.pick(null));
  showControls();
}

function options(id, choices) {
  byId(id).replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
}

function choose(what, value) {
  if (what === "last" && value === OTHER_RANGE) {
    byId("from").value = words.localOf(range[0], zone());
    byId("to").value = words.localOf(range[1], zone());
    byId("span").hidden = false;
    byId("from").focus();
  } else if (what === "interval") {
    changeView({ interval: value, last: RANGES[value].includes(view.last) ? view.last : RANGES[value][0] });
  } else changeView({ [what]: value });
}

function changeView(change) {
  const before = view;
  view = { ...view, ...change };
  history.replaceState(null, "", toAddress(view));
  showControls();
  showState();
  if (change.zone && before.interval === view.interval) draw();
  else askForView();
}

function showControls() {
  options("last", [...RANGES[view.interval].map((last) => [last, NAMES[last]]), [OTHER_RANGE, "from … to …"]]);
  byId("interval").value = view.interval;
  byId("last").value = view.last || OTHER_RANGE;
  byId("zone").value = view.zone;
  byId("span").hidden = Boolean(view.last);
  if (!view.last) {
    byId("from").value = words.localOf(view.from, zone());
    byId("to").value = words.localOf(view.to, zone());
  }
}

function keys(event) {
  const end = chart.rows.length - 1;
  if (end < 0) return;
  const at = chart.place ?? end + 1;
  const places = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, PageUp: at + 10,
    PageDown: at - 10, Home: 0, End: end };
  if (event.key === "Escape") chart.pick(null);
  if (!(event.key in places)) return;
  event.preventDefault();
  chart.pick(Math.min(end, Math.max(0, places[event.key])));
}
