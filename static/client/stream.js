// One session, read to its end over whatever connections it takes.

import { fetchWire, sseWire } from "./bodies.js";
import { CURSOR, epochOf, FINAL, NOTICES, seqOf, TAKEN } from "./events.js";
import { call, problem } from "./http.js";
import { hasSockets, socketWire } from "./tabs.js";
import { Backoff, OBSTINATE } from "./timing.js";

const WIRES = { ws: socketWire, sse: sseWire, fetch: fetchWire };
const AUTO = ["ws", "sse", "fetch"]; // one socket for all tabs first, then a connection each

/** One session's events; see tokenwire.js. */
export class TokenStream {
  after; text = "";
  #sid; #server; #transport; #auto; #wire = null; #timer; #backoff = new Backoff(); #waiting = false; #asleep = false; #heard = false; #gaps = 0;
  #listeners = new Map(); #queue = []; #iterated = false; #wake = () => {}; #closed = false; #failure = null; #unhear;

  constructor(sid, { transport, after, server, signal }) {
    if (after !== null && !CURSOR.test(after)) throw new TypeError("a cursor is <epoch>-<seq>");
    this.#sid = sid;
    this.#server = server;
    this.after = after;
    this.#choose(transport);
    const stop = () => { this.#failure = signal.reason; this.#queue.length = 0; this.close(); };
    signal?.addEventListener("abort", stop, { once: true });
    const deafen = hear(this);
    this.#unhear = () => { deafen(); signal?.removeEventListener("abort", stop); };
    if (signal?.aborted) stop();
    queueMicrotask(() => this.#open());
  }

  get sid() { return this.#sid; }
  get transport() { return this.#transport; }
  get closed() { return this.#closed; }

  on(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
    return this;
  }

  off(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) ?? []).filter((other) => other !== listener));
    return this;
  }

  pause() { return this.#control("pause"); }
  resume() { return this.#control("resume"); }
  abort() { return this.#control("abort"); }

  switch(transport) {
    if (this.#closed || transport === this.#transport) return;
    this.#choose(transport);
    this.#hangUp();
    this.#open();
  }

  cut() {
    if (this.#wire === null) return;
    const wire = this.#wire;
    wire.drop();
    if (this.#wire === wire && this.#transport !== "ws") this.#lost("cut"); // a socket tells all its readers
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#unhear();
    this.#hangUp();
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    this.#iterated = true;
    try {
      while (true) {
        while (this.#queue.length) yield this.#queue.shift();
        if (this.#failure) throw this.#failure;
        if (this.#closed) return;
        await new Promise((resolve) => { this.#wake = resolve; });
      }
    } finally {
      this.close();
    }
  }

  /** What the page tells: it is hidden for good or kept asleep, it is there again, it has a network or none. */
  told(what) {
    if (what === "hide") {
      this.#asleep = true;
      clearTimeout(this.#timer);
      this.#hangUp();
    } else if (what === "offline") {
      if (this.#wire) this.#lost("offline");
    } else if (this.#asleep || this.#waiting) {
      this.#asleep = false;
      this.#open();
    } else this.#wire?.wake();
  }

  #choose(transport) {
    if (transport !== "auto" && !WIRES[transport]) throw new TypeError("a transport is one of auto, sse, ws, fetch");
    this.#auto = transport === "auto";
    this.#transport = this.#auto ? AUTO.find((name) => name !== "ws" || hasSockets()) : transport;
    if (transport === "ws" && !hasSockets()) throw new TypeError("there is no WebSocket here");
  }

  async #control(action) {
    try {
      if (this.#wire?.ask) return await this.#wire.ask(action);
    } catch (error) {
      if (error.code !== "wire_lost") throw error; // else ask again: twice is as good as once
    }
    return call(this.#server, `v1/sessions/${encodeURIComponent(this.#sid)}/${action}`, { method: "POST" });
  }

  #open() {
    clearTimeout(this.#timer);
    this.#waiting = false;
    if (this.#closed || this.#wire) return;
    const transport = this.#transport;
    // A wire that was hung up may still have something to say; nobody listens.
    const mine = (act) => (...args) => { if (this.#wire === wire) act(...args); };
    this.#heard = false;
    const wire = this.#wire = {};
    Object.assign(wire, WIRES[transport](this.#server, this.#sid, this.after, {
      waiting: mine(() => this.#emit("waiting", { transport })),
      open: mine(() => {
        this.#backoff.opened();
        this.#emit("open", { transport, after: this.after });
      }),
      item: mine((item) => this.#take(item)),
      end: mine(() => this.#end({})),
      gone: mine((error) => this.#end({ error })),
      lost: mine((why, least, wait) => this.#lost(why, least, wait)),
      unusable: mine((why, least, wait) => this.#fall(why, wait)),
    }));
  }

  #hangUp() {
    const wire = this.#wire;
    this.#wire = null;
    wire?.close?.();
  }

  #lost(why, least = 0, wait = this.#backoff.next(least)) {
    this.#hangUp();
    // Where nothing came the server may have been away; so it may have been when another transport failed.
    if (this.#auto && !this.#heard) this.#choose("auto");
    this.#again(wait);
    this.#emit("lost", { why, wait });
  }

  #again(wait) {
    clearTimeout(this.#timer);
    this.#waiting = true;
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  #fall(why, wait) {
    if (!this.#auto) return this.#lost(why, 0, wait);
    const from = this.#transport;
    const usable = AUTO.filter((name) => name !== "ws" || hasSockets());
    this.#transport = usable[(usable.indexOf(from) + 1) % usable.length];
    this.#hangUp();
    this.#again(from === usable.at(-1) ? this.#backoff.next() : 0);
    this.#emit("fell", { from, to: this.#transport, why });
  }

  #take(item) {
    this.#heard = true;
    if (!NOTICES.has(item.type)) return this.#read(item);
    if (item.type === "reset") {
      Object.assign(this, { after: null, text: "" });
      this.#queue.length = 0;
      this.#keep(item);
    }
    this.#emit(item.type, item);
  }

  #read(item) {
    if (!this.#follows(item)) return;
    this.after = item.id;
    this.#gaps = 0;
    this.#backoff.worked();
    if (item.type === "content") this.text += item.content;
    this.#keep(item);
    this.#emit("event", item);
    this.#emit(item.type, item);
    if (FINAL.has(item.type)) this.#end({ final: item });
  }

  // A duplicate is left out; behind a gap nothing is let through, it is read again from the cursor.
  #follows({ id, n = 1 }) {
    const seq = seqOf(id), have = seqOf(this.after);
    if (seq - n === have && epochOf(id) >= epochOf(this.after)) return true;
    const gap = seq > have, why = gap ? "gap" : "duplicate";
    this.#emit("refused", { why, id, after: this.after });
    if (gap && ++this.#gaps < OBSTINATE) this.#lost(why);
    else if (gap) this.#end({ error: { code: "broken_stream", message: "The server insists on a gap." } });
    return false;
  }

  // Items wait for whoever iterates; who listens to them instead has had them.
  #keep(item) {
    if (!this.#iterated && TAKEN.some((type) => this.#listeners.get(type)?.length)) return;
    this.#queue.push(item);
    this.#wake();
  }

  #end(ending) {
    if (this.#closed) return;
    if (ending.error) this.#failure = problem(ending.error);
    this.close();
    this.#emit("end", ending);
  }

  #emit(type, item) {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        listener(item);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // a bad listener is heard of, and stops nobody else
      }
    }
  }
}

// One set of listeners on the page for all streams.
const streams = new Set();
function hear(stream) {
  if (!streams.size) for (const [target, type, what] of signs()) target.addEventListener(type, what);
  streams.add(stream);
  return () => {
    streams.delete(stream);
    if (!streams.size) for (const [target, type, what] of signs()) target.removeEventListener(type, what);
  };
}

const tell = (what) => { for (const stream of [...streams]) stream.told(what); };
const hide = () => tell("hide"), offline = () => tell("offline"), back = () => tell("back");
const visible = () => { if (!document.hidden) back(); };

function signs() {
  if (typeof document === "undefined") return [];
  return [
    [window, "pagehide", hide], [window, "pageshow", back], [window, "online", back], [window, "offline", offline],
    [document, "resume", back], [document, "visibilitychange", visible],
  ];
}
