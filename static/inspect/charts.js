// Small charts of the last minutes: one or two lines each, in SVG.

import { make, put } from "../page/dom.js";
import { number, time } from "./words.js";

export const SPAN = 300_000;
const WIDTH = 300, HEIGHT = 60;
const APART = 5_000; // values that are further apart are not joined by a line

const CHARTS = [
  ["Tokens a second", number, { "": (s) => s.tokens }],
  ["Time to first token", time, { p50: (s) => s.first_token.p50, p95: (s) => s.first_token.p95 }],
  ["Viewers", number, { "": (s) => s.viewers }],
  ["Running sessions", number, { "": (s) => s.running }],
  ["Redis round trip", time, { p50: (s) => s.commit.p50, p99: (s) => s.commit.p99 }],
  ["Event loop lag", time, { p50: (s) => s.lag.p50, p99: (s) => s.lag.p99 }],
];

const svg = (name, facts) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  return element;
};

class Chart {
  #title; #say; #lines; #picture; #top = make("span"); #values = []; #paths = []; #dots = [];

  constructor(title, say, lines) {
    this.#title = title;
    this.#say = say;
    this.#lines = Object.entries(lines);
    this.#picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.#picture.append(svg("path", { class: "grid", d: `M0 .5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}` }));
    const keys = make("span", { className: "keys" });
    for (const [place, [name]] of this.#lines.entries()) {
      this.#paths[place] = svg("path", { class: `line${place}` });
      this.#dots[place] = svg("path", { class: `line${place} dots` });
      this.#picture.append(this.#paths[place], this.#dots[place]);
      this.#values[place] = make("b");
      keys.append(make("span", { className: `key${place}` }, name ? `${name} ` : "", this.#values[place]));
    }
    const scale = make("p", { className: "scale", ariaHidden: "true" }, make("span", {}, "5 min ago"), this.#top);
    const caption = make("figcaption", {}, make("b", {}, title), keys);
    this.element = make("figure", { className: "chart" }, caption, this.#picture, scale);
  }

  draw(seconds) {
    const now = seconds.at(-1).at;
    const drawn = this.#lines.map(([, of]) => seconds.map((second) => [second.at, of(second)]).filter(([, value]) => value != null));
    const most = Math.max(0, ...drawn.flat().map(([, value]) => value));
    const top = ceiling(most);
    for (const [place, points] of drawn.entries()) {
      const [line, dots] = paths(points, now, top);
      this.#paths[place].setAttribute("d", line);
      this.#dots[place].setAttribute("d", dots);
      const last = points.at(-1);
      put(this.#values[place], this.#say(last && now - last[0] < APART ? last[1] : null));
    }
    put(this.#top, `up to ${this.#say(top)}`);
    const said = this.#lines.map(([name], place) => `${name} ${this.#values[place].textContent}`.trim()).join(", ");
    this.#picture.setAttribute("aria-label", `${this.#title}: now ${said}; at most ${this.#say(most)} in the last five minutes`);
  }
}

/** Values as a line, and those that stand alone as dots. */
function paths(points, now, top) {
  let line = "", dots = "";
  for (const [place, [at, value]] of points.entries()) {
    const x = (WIDTH - (now - at) / 1000).toFixed(1), y = (HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1);
    const joins = at - (points[place - 1]?.[0] ?? -Infinity) <= APART, goesOn = (points[place + 1]?.[0] ?? Infinity) - at <= APART;
    if (joins || goesOn) line += `${joins ? "L" : "M"}${x} ${y}`;
    else dots += `M${x} ${y}h.01`;
  }
  return [line, dots];
}

/** The next of 1, 2, 5, 10, 20, 50, … */
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  return power * [1, 2, 5, 10].find((step) => step * power >= most * 0.999);
}

export class Charts {
  #charts = CHARTS.map((facts) => new Chart(...facts));

  constructor(place) { place.append(...this.#charts.map(({ element }) => element)); }

  draw(seconds) { for (const chart of this.#charts) chart.draw(seconds); }
}
