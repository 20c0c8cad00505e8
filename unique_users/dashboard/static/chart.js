// The chart: a bar for each bucket, drawn here; axes, scales and cursor by uPlot.
//
// A bar is blue up to what the bucket had at its end, and orange above; grey-blue where that is not known. The open bucket
// is hollow and dashed, with a ring on top: a half-full bucket must not look like an outage. A triangle marks what is not whole, a whisker the bounds of an estimate.

import * as words from "./words.js";

const PAD = 1.1; // of the highest bar
const LARGE = new URLSearchParams(location.search).has("kiosk") ? 1.4 : 1; // labels on a wall are read from afar
const LABEL_SPACE = 74 * LARGE; // pixels between two times, at least
const START = 0, END = 1, USERS = 2, AT_END = 3, LOWER = 4, UPPER = 5, WHY = 6;

/** The chart in an element. `picked` is called with the place of the row that the cursor is at, or null. */
export class Chart {
  constructor(element, picked) {
    this.element = element;
    this.picked = picked;
    this.rows = [];
    this.place = null;
    this.range = [0, 60];
    this.zone = "UTC";
    this.marker = document.createElement("div");
    this.marker.className = "picked";
    this.marker.hidden = true;
    this.nothing = document.createElement("p");
    this.nothing.className = "nothing";
    this.nothing.hidden = true;
    element.append(this.nothing);
    this.plot = new uPlot(this.options(), [[], []], element);
    this.plot.over.append(this.marker);
    this.plot.over.addEventListener("mousemove", (event) => this.pick(this.at(event.offsetX)));
    this.plot.over.addEventListener("mouseleave", () => this.pick(null));
    new ResizeObserver(() => this.resize()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.colours());
    this.colours();
  }

  /** Show rows, oldest first, over a range of time; `opened` is the start of the open bucket. */
  show(rows, range, opened, zone, nothing) {
    const picked = this.place === null ? null : this.rows[this.place]?.[START];
    Object.assign(this, { rows, range, opened, zone });
    this.nothing.textContent = nothing;
    this.nothing.hidden = rows.length > 0;
    this.plot.setData([rows.map((row) => row[START]), rows.map((row) => row[USERS])], true);
    if (picked !== null) {
      const place = rows.findIndex((row) => row[START] === picked);
      this.pick(place < 0 ? null : place);
    }
  }

  /** Move the cursor to a row, or away. */
  pick(place) {
    this.place = place;
    this.marker.hidden = place === null;
    if (place !== null) {
      const [left, right] = [START, END].map((side) => this.plot.valToPos(this.rows[place][side], "x"));
      this.marker.style.left = `${Math.max(0, left)}px`;
      this.marker.style.width = `${Math.max(2, right - left)}px`;
    }
    this.picked(place);
  }

  /** The row at so many pixels from the left, or null. */
  at(left) {
    const ts = this.plot.posToVal(left, "x");
    const place = this.rows.findIndex((row) => row[START] <= ts && ts < row[END]);
    return place < 0 ? null : place;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width && height) this.plot.setSize({ width, height });
    if (this.place !== null) this.pick(this.place);
  }

  colours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["now", "late", "unknown", "text", "muted", "line", "panel"]) this[name] = style.getPropertyValue(`--${name}`);
    this.plot.redraw(false, true);
  }

  options() {
    const axis = { stroke: () => this.muted, font: `${12 * LARGE}px system-ui, sans-serif`, ticks: { show: false } };
    return {
      width: this.element.clientWidth || 300,
      height: this.element.clientHeight || 200,
      legend: { show: false },
      cursor: { show: false },
      padding: [12, 24, 0, 0],
      scales: {
        // A little more than the range: the ring of the open bucket is at its edge.
        x: { time: true, range: () => [this.range[0], this.range[1] + (this.range[1] - this.range[0]) / 120] },
        y: { range: (_, __, highest) => [0, Math.max(10, this.highest(highest) * PAD)] },
      },
      axes: [
        { ...axis, size: 40 * LARGE, space: LABEL_SPACE, grid: { show: false }, values: (_, ticks) => this.times(ticks) },
        { ...axis, size: 58 * LARGE, grid: { stroke: () => this.line, width: 1 }, values: (_, ticks) => ticks.map(words.count) },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [(plot) => this.draw(plot)] },
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), this.zone === "UTC" ? "Etc/UTC" : this.zone),
    };
  }

  highest(users) {
    return this.rows.reduce((most, row) => Math.max(most, row[UPPER] ?? 0), users ?? 0);
  }

  /** The labels of the time axis: the time, and the date where it is another one than before. */
  times(ticks) {
    const days = ticks.length > 1 && ticks[1] - ticks[0] >= 86_400;
    let before;
    return ticks.map((ts) => {
      const day = words.dayAndMonth(ts, this.zone);
      if (days) return ticks.at(-1) - ticks[0] > 300 * 86_400 ? words.date(ts, this.zone) : day;
      const text = words.clock(ts, this.zone) + (day === before ? "" : `\n${day}`);
      before = day;
      return text;
    });
  }

  draw(plot) {
    const { ctx } = plot;
    const { left, top, width, height } = plot.bbox;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    const bottom = plot.valToPos(0, "y", true);
    for (const row of this.rows) {
      const from = plot.valToPos(row[START], "x", true), to = plot.valToPos(row[END], "x", true);
      const gap = to - from > 4 * ratio ? ratio : 0;
      this.bar(plot, ctx, row, from, Math.max(ratio, to - from - gap), bottom, ratio);
    }
    ctx.restore();
  }

  bar(plot, ctx, row, from, width, bottom, ratio) {
    const top = plot.valToPos(row[USERS], "y", true);
    if (row[START] === this.opened) {
      ctx.strokeStyle = this.now;
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      ctx.strokeRect(from + ratio, top, Math.max(2 * ratio, width - 2 * ratio), bottom - top + 2 * ratio);
      ctx.setLineDash([]);
      ctx.fillStyle = this.panel;
      ctx.beginPath();
      ctx.arc(from + width / 2, top, 4 * ratio, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    } else {
      const inTime = row[AT_END] === null ? top : plot.valToPos(Math.min(row[AT_END], row[USERS]), "y", true);
      ctx.fillStyle = row[AT_END] === null ? this.unknown : this.now;
      ctx.fillRect(from, inTime, width, bottom - inTime);
      if (inTime > top) {
        // At least two pixels, and a line of the background below: a few late users must not be overlooked.
        const height = Math.max(2 * ratio, inTime - top);
        ctx.fillStyle = this.late;
        ctx.fillRect(from, inTime - height, width, height);
        ctx.fillStyle = this.panel;
        if (width > 3 * ratio) ctx.fillRect(from, inTime - ratio / 2, width, ratio);
      }
    }
    if (row[LOWER] !== null) {
      const [upper, lower] = [row[UPPER], row[LOWER]].map((users) => plot.valToPos(users, "y", true));
      ctx.fillStyle = this.text;
      ctx.fillRect(from + width / 2 - ratio / 2, upper, ratio, lower - upper);
      for (const end of [upper, lower]) ctx.fillRect(from + width / 4, end - ratio / 2, width / 2, ratio);
    }
    if (row[WHY].length) {
      const middle = from + width / 2, size = Math.min(5 * ratio, Math.max(2.5 * ratio, width / 2));
      ctx.fillStyle = this.text;
      ctx.beginPath();
      ctx.moveTo(middle - size, top - 2.6 * size);
      ctx.lineTo(middle + size, top - 2.6 * size);
      ctx.lineTo(middle, top - size);
      ctx.fill();
    }
  }
}
