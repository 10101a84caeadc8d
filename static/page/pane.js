// One reader: a stream over one transport, what it shows, and what it tells of its wire.

import { connect } from "../client/tokenwire.js";
import { announce, clone, make, put } from "./dom.js";
import { Meter } from "./meter.js";
import { key } from "./store.js";

const NAMES = { sse: "SSE", ws: "WebSocket", fetch: "fetch" };
const LINES = 60;
/** What an answer's state is called, by its final event. */
export const STATES = { done: "done", aborted: "stopped", error: "failed" };
const LIVE = new Set(["starting", "running", "paused"]);
const seq = (id) => (id ? id.slice(id.indexOf("-") + 1) : null);
const place = (id) => (id ? `after event ${seq(id)}` : "from the start");

export class Pane {
  element = clone("pane");
  #at; #name; #stream = null; #meter = new Meter(); #answer = null; #event = null; #wire = "closed"; #on; #dirty = true; #pinned = true; #top = 0;
  state = "idle";

  /** `on.change()` after any change of state, `on.end(final)` when an answer is whole or cannot be read, `on.locked()` if it takes a key. */
  constructor(name, transport, on) {
    this.#name = name;
    this.#on = on;
    this.#at = Object.fromEntries([...this.element.querySelectorAll("[data-is]")].map((e) => [e.dataset.is, e]));
    this.element.setAttribute("aria-label", name);
    this.#at.thread.setAttribute("aria-label", `${name}: text`);
    for (const radio of this.element.querySelectorAll("input[type=radio]")) {
      radio.name = `transport ${name}`;
      radio.checked = radio.value === transport;
      radio.addEventListener("change", () => this.#switch(radio.value));
    }
    this.element.dataset.transport = transport;
    this.thread.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.thread;
      if (scrollHeight - scrollTop - clientHeight < 60) this.#pinned = true;
      else if (scrollTop < this.#top) this.#pinned = false;
      this.#top = scrollTop;
    });
    new ResizeObserver(() => this.keepUp()).observe(this.thread);
    this.#at.cut.addEventListener("click", () => this.#stream?.cut());
  }

  get transport() { return this.element.dataset.transport; }
  get thread() { return this.#at.thread; }
  get stream() { return this.#stream; }
  get live() { return LIVE.has(this.state); }
  get answer() { return this.#answer; }
  get following() { return this.#stream?.sid ?? null; }

  /** Wait for an answer that was asked for at `sent`. */
  expect(answer) {
    this.rest("starting");
    this.#answer = answer;
    answer.element.classList.add("waiting");
  }

  /** Read session `sid` into `answer`. */
  follow(sid, answer, sent = null) {
    this.rest("starting");
    this.#answer = answer;
    answer.element.classList.add("live", "waiting");
    this.#meter = new Meter(sent);
    this.#wire = "connecting";
    const mine = this.#stream = connect(sid, { transport: this.transport, token: key() });
    for (const [type, heard] of Object.entries(this.#heard)) {
      mine.on(type, (item) => {
        if (this.#stream !== mine) return;
        this.#dirty = true;
        heard(item);
        if (type === "open" || type === "lost") this.#on.change();
      });
    }
    this.#on.change();
  }

  /** Read nothing; `event` is the last id that was read. */
  rest(state = "idle", event = null) {
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
    this.#answer?.element.classList.remove("live", "waiting");
    this.#answer = null;
    this.#meter.mark("off");
    if (state !== this.state || event !== this.#event) this.#meter = new Meter();
    Object.assign(this, { state });
    this.#event = event;
    this.#wire = "closed";
    this.#dirty = true;
  }

  #heard = {
    open: ({ transport, after }) => {
      const back = this.#wire === "reconnecting";
      this.#wire = "connected";
      this.element.dataset.over = transport;
      this.#meter.reconnects += back;
      this.#meter.mark(this.state === "paused" ? "held" : "on");
      this.note(`${back ? "Back" : "Connected"} over ${NAMES[transport]}, reading on ${place(after)}`, back);
    },
    waiting: ({ transport }) => {
      this.#wire = "waiting";
      this.note(`Other tabs use all connections for ${NAMES[transport]}: reading on when one is free, or at once over WebSocket`, true);
    },
    lost: ({ why, wait }) => {
      this.#wire = "reconnecting";
      this.#meter.mark("lost");
      this.note(`Connection lost (${why}) ${place(this.#stream.after)}, back in ${Math.round(wait)} ms`, true);
    },
    session: ({ status, paused }) => {
      if (status === "running" || paused) this.#become(paused ? "paused" : "running");
    },
    paused: ({ gate }) => { this.#become("paused"); this.note(`Paused behind event ${gate}`, true); },
    resumed: () => { this.#become("running"); this.note("Resumed", true); },
    reset: ({ reason }) => { this.#answer.clear(); this.#meter.tokens = 0; this.note(`The log was begun anew (${reason}): reading it again`); },
    moving: () => this.note("The server is moving: looking for another"),
    refused: ({ why, id, after }) => {
      this.#meter.gaps += why === "gap";
      this.note(`Refused a ${why}: event ${seq(id)} ${place(after)}`);
    },
    event: (event) => {
      if (this.#event === null) this.#answer.element.classList.remove("waiting");
      this.#event = event.id;
      this.#meter.count(event, this.#stream.transport);
      this.#answer.add(event);
    },
    end: ({ final, error }) => this.#ended(final, error),
  };

  #become(state) {
    this.state = state;
    this.#meter.mark(state === "paused" ? "held" : "on");
    this.#on.change();
  }

  #ended(final, error) {
    if (error?.code === "unauthorized") {
      this.rest("locked");
      return this.#on.locked();
    }
    const answer = this.#answer, event = this.#event;
    this.#stream = null;
    this.#wire = "closed";
    this.#meter.mark("off");
    answer.element.classList.remove("live", "waiting");
    const gone = error?.code === "gone";
    if (error) {
      this.state = gone ? "gone" : "failed";
      this.note(`Could not be read (${error.code})`);
    } else if (final) {
      this.state = STATES[final.type];
      this.note(final.type === "done" ? `Done: events 1 to ${seq(event)}, each once and in order` : `Ended behind event ${seq(event)} (${final.reason ?? final.code})`);
    } else this.state = "done";
    this.#draw(answer, true);
    this.#on.end(final ?? { type: gone ? "gone" : error ? "unread" : "done", message: error?.message }, answer, event, this.#meter.tokens);
    this.#on.change();
  }

  #switch(transport) {
    this.element.dataset.transport = transport;
    if (this.#stream) {
      this.note(`Switching to ${NAMES[transport]} ${place(this.#stream.after)}`);
      this.#wire = "connecting";
      this.#stream.switch(transport);
    }
    this.#dirty = true;
    this.#on.change();
  }

  note(text, aloud = false) {
    put(this.#at.latest, text);
    const time = make("time", {}, new Date().toLocaleTimeString([], { hour12: false }));
    this.#at.notes.prepend(make("li", {}, time, text));
    while (this.#at.notes.children.length > LINES) this.#at.notes.lastChild.remove();
    if (aloud) announce(text);
  }

  /** Draw the answer's new text; returns whether there is more to do at another time. */
  paint() { return this.#answer !== null && this.#draw(this.#answer); }

  #draw(answer, whole = false) {
    const more = answer.paint(whole);
    this.keepUp();
    return more;
  }

  /** Keep the end of the text in sight, unless its reader has scrolled away. */
  keepUp() { if (this.#pinned && this.thread.querySelector(".turn")) this.thread.scrollTop = this.thread.scrollHeight; }

  /** Draw the facts and the tape. */
  measure() {
    if (!this.#dirty && !this.live) return;
    this.#dirty = this.live;
    const at = this.#at, meter = this.#meter;
    at.status.dataset.state = this.state;
    put(at.status, this.state);
    put(at.wire, this.#wire === "closed" ? "" : this.#wire);
    at.wire.toggleAttribute("data-lost", this.#wire === "reconnecting" || this.#wire === "waiting");
    this.element.toggleAttribute("data-full", this.#wire === "waiting");
    at.cut.disabled = this.#wire !== "connected";
    put(at.event, this.#event ?? "–");
    put(at.tokens, String(meter.tokens || "–"));
    put(at.rate, this.live ? `${Math.round(meter.rate)}/s` : "–");
    put(at.first, meter.first === null ? "–" : milliseconds(meter.first));
    put(at.longest, meter.longest ? milliseconds(meter.longest) : "–");
    put(at.reconnects, String(meter.reconnects));
    put(at.gaps, String(meter.gaps));
    at.gaps.classList.toggle("bad", meter.gaps > 0);
    meter.draw(at.tape);
  }
}

const milliseconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
