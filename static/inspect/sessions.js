// The list of sessions: sorted, sifted, and brought up to date without losing anybody's place in it.

import { make, put } from "../page/dom.js";
import { bytes, colourOf, format, number, short, stateOf, total, viewersOf } from "./words.js";

const buffered = ({ producer }) => (producer ? producer.queue_bytes + producer.held_bytes : 0);
const viewers = (session) => Object.entries(viewersOf(session)).map(([name, count]) => `${count} ${format(name)}`).join(", ") || "none";

// Title, what is said, what is sorted by; `extra` ones are left out where there is no room.
const COLUMNS = [
  { title: "Session", by: (s) => s.created },
  { title: "State", by: stateOf },
  { title: "Events", say: (s) => number(s.seq), by: (s) => s.seq, kind: "number extra" },
  { title: "Rate", say: (s) => (s.status === "running" && s.rate != null ? `${number(s.rate)}/s` : "–"), by: (s) => s.rate ?? 0, kind: "number" },
  { title: "Viewers", say: viewers, by: (s) => total(viewersOf(s)) },
  { title: "Lag", say: (s) => number(s.behind), by: (s) => s.behind, kind: "number extra" },
  { title: "Buffered", say: (s) => bytes(buffered(s)), by: buffered, kind: "number extra" },
  { title: "Produced by", say: (s) => s.producer?.node ?? "–", by: (s) => s.producer?.node ?? "", kind: "code extra" },
  { title: "Fence", say: (s) => s.fence, by: (s) => s.epoch, kind: "code extra" },
];
const SHOWN = 200;

export class Sessions {
  #rows = new Map(); #all = []; #by = 0; #down = true; #headings; #body; #open;

  /** `open(sid)` is called for the session that somebody wants to see. */
  constructor(table, open) {
    this.#open = open;
    this.#body = table.tBodies[0];
    this.#headings = COLUMNS.map(({ title, kind = "" }, place) => {
      const button = make("button", { type: "button" }, title);
      button.addEventListener("click", () => this.#sort(place));
      return make("th", { className: kind, scope: "col" }, button);
    });
    table.tHead.rows[0].append(...this.#headings);
    this.#mark();
  }

  find(sid) { return this.#all.find(({ id }) => id === sid); }

  focus(sid) { this.#rows.get(sid)?.button.focus(); }

  take(sessions) { this.#all = sessions; }

  /** Draw those that hold `text` and are in `state`; returns how many there are. */
  draw({ text, state, current }) {
    const wanted = text.trim().toLowerCase();
    const found = this.#all.filter((s) => is(s, state) && [s.id, s.model, s.conversation, s.principal].some((word) => word?.toLowerCase().includes(wanted)));
    const { by } = COLUMNS[this.#by];
    const order = (a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : b.created - a.created || (a.id < b.id ? -1 : 1));
    found.sort((a, b) => (this.#down ? order(b, a) : order(a, b)));
    const shown = found.slice(0, SHOWN), ids = new Set(shown.map(({ id }) => id));
    for (const [id, { element }] of this.#rows) if (!ids.has(id)) { element.remove(); this.#rows.delete(id); }
    shown.forEach((session, place) => {
      const row = this.#row(session);
      row.element.toggleAttribute("data-current", session.id === current);
      // A row that is where it belongs is left there: moving it would take the keyboard's place away.
      if (this.#body.rows[place] !== row.element) this.#body.insertBefore(row.element, this.#body.rows[place] ?? null);
    });
    return { found: found.length, shown: shown.length };
  }

  #row(session) {
    let row = this.#rows.get(session.id);
    if (!row) {
      const button = make("button", { type: "button", className: "sid", title: session.id }, short(session.id));
      button.addEventListener("click", () => this.#open(session.id));
      const model = make("span", { className: "soft" }), state = make("span", { className: "pill" });
      const cells = COLUMNS.slice(2).map(({ kind = "" }) => make("td", { className: kind }));
      const element = make("tr", {}, make("th", { scope: "row" }, button, model), make("td", {}, state), ...cells);
      row = { element, button, model, state, cells };
      this.#rows.set(session.id, row);
    }
    put(row.model, session.model);
    put(row.state, stateOf(session));
    row.state.dataset.state = colourOf(session);
    COLUMNS.slice(2).forEach(({ say }, place) => put(row.cells[place], say(session)));
    return row;
  }

  #sort(place) {
    this.#down = place === this.#by ? !this.#down : true;
    this.#by = place;
    this.#mark();
    this.sorted?.();
  }

  #mark() {
    this.#headings.forEach((heading, place) => {
      if (place === this.#by) heading.setAttribute("aria-sort", this.#down ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
  }
}

function is(session, state) {
  if (!state) return true;
  return state === "ended" ? session.status !== "running" : stateOf(session) === state;
}
