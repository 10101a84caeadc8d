// One WebSocket to a server, for all who read over it: several sessions, and several readers of one session.
//
// The server keeps one cursor a session and socket. When another reader joins, the socket attaches anew from the
// least of their cursors, and each reader is given what lies behind its own.

import { FINAL, NOTICES, parse, seqOf } from "./events.js";
import { call, isFinal, problem } from "./http.js";
import { Backoff, FIRST, watchdog } from "./timing.js";

const IDLE = 3_000; // how long a socket is kept that nobody reads over
const ABANDONED = 3_000;
// By these codes a server closes that had nothing else to say.
const HERE = /^(1001|1012|4...)$/;

/** One socket to each server, and for each who asks there. */
export class Sockets {
  #lines = new Map();

  /** Read session `sid` over the socket to `server`; returns a wire, see bodies.js, that can also `ask(action)`. */
  attach(server, sid, after, on) {
    const { base, token = "" } = server, key = `${base} ${token}`;
    if (!this.#lines.has(key)) this.#lines.set(key, new Line(server, () => this.#lines.delete(key)));
    return this.#lines.get(key).attach(sid, after, on);
  }
}

class Line {
  #server; #forget; #socket = null; #heard; #first; #watch = null; #idle;
  #backoff = new Backoff();
  #channels = new Map(); // by session: { readers, joining, attaching, again, notice }
  #asked = new Map();
  #refs = 0;

  constructor(server, forget) {
    this.#server = server;
    this.#forget = forget;
  }

  attach(sid, after, on) {
    clearTimeout(this.#idle);
    const reader = { after, on, active: false, behind: false };
    const channel = this.#channels.get(sid) ?? { readers: new Set(), joining: [], attaching: false, again: false };
    this.#channels.set(sid, channel);
    channel.readers.add(reader);
    if (this.#socket === null) this.#open();
    else if (this.#isOpen()) this.#sync(sid, channel);
    return {
      close: () => this.#leave(sid, channel, reader),
      drop: () => this.#lose("cut", ABANDONED),
      wake: () => this.#watch?.hurry(),
      ask: (action) => this.#ask({ type: action, session: sid }),
    };
  }

  #isOpen() { return this.#socket?.readyState === 1; }

  #open() {
    const socket = this.#socket = new WebSocket(`${this.#server.base.replace(/^http/, "ws")}v1/ws`);
    this.#heard = false;
    this.#watch = watchdog(
      () => this.#lose("silence", ABANDONED),
      () => this.#isOpen() && this.#send({ type: "ping" }), // the server's own pings are not shown to a page
    );
    socket.onopen = () => {
      this.#backoff.opened();
      this.#watch.alive();
      this.#introduce();
      // Answered at once, whatever the sessions wait for.
      this.#send({ type: "ping" });
      for (const [sid, channel] of this.#channels) this.#sync(sid, channel);
    };
    socket.onmessage = ({ data }) => {
      this.#heard = true;
      this.#watch.alive();
      this.#take(parse(data));
    };
    // Node tells of a refusal by `error` alone, a browser by both.
    socket.onerror = () => { if (!this.#heard) { socket.onclose = null; this.#refused(socket); } };
    socket.onclose = ({ code }) => (this.#heard || HERE.test(code) ? this.#lose(`closed ${code}`) : this.#refused(socket));
    this.#first = setTimeout(() => this.#refused(socket, "held back"), FIRST);
  }

  // First thing, and not waited for: where it is refused, what comes behind it is refused, too. A server that asks
  // nobody, or has the page's cookie, wants none.
  #introduce() {
    const { token } = this.#server;
    if (token) this.#ask({ type: "auth", token }).catch(() => {});
  }

  // Nothing came, and a page is not told why: is the server there at all?
  async #refused(socket, why = "refused") {
    if (this.#heard || socket !== this.#socket) return;
    const there = await call(this.#server, "healthz").then(() => true, () => false);
    if (!this.#heard && socket === this.#socket) this.#lose(why, 0, there ? "unusable" : "lost");
  }

  #lose(why, abandon = 0, how = "lost") {
    const socket = this.#socket;
    if (socket === null) return;
    this.#watch.stop();
    clearTimeout(this.#first);
    socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
    if (abandon) setTimeout(() => socket.close(), abandon);
    else socket.close();
    this.#socket = null;
    const asked = [...this.#asked.values()], readers = [...this.#channels.values()].flatMap((c) => [...c.readers]);
    this.#asked.clear();
    this.#channels.clear();
    for (const { reject } of asked) reject(problem({ code: "wire_lost", message: "The connection was lost." }));
    const wait = this.#backoff.next(); // one for all: whoever comes first opens the socket for the others
    for (const { on } of readers) on[how](why, 0, wait);
  }

  #send(message) { this.#socket.send(JSON.stringify(message)); }

  #ask(message) {
    return new Promise((resolve, reject) => {
      if (!this.#isOpen()) return reject(problem({ code: "wire_lost", message: "Not connected." }));
      const ref = ++this.#refs;
      this.#asked.set(ref, { resolve, reject });
      this.#send({ ...message, ref });
    });
  }

  // One attach at a time: until its `session` notice comes, what arrives is for those who were there before.
  async #sync(sid, channel) {
    if (channel.attaching) { channel.again = true; return; }
    channel.attaching = true;
    channel.again = false;
    channel.joining = [...channel.readers];
    channel.notice = null;
    const least = channel.joining.reduce((a, b) => (seqOf(a.after) <= seqOf(b.after) ? a : b));
    const joining = channel.joining;
    try {
      await this.#ask({ type: "attach", session: sid, ...(least.after && { after: least.after }) });
      this.#endThoseAtTheEnd(channel, joining);
    } catch (error) {
      if (error.code !== "wire_lost") this.#refuse(sid, channel, error);
    }
    channel.attaching = false;
    if (channel.again && channel.readers.size && this.#channels.get(sid) === channel) this.#sync(sid, channel);
  }

  #refuse(sid, channel, error) {
    if (this.#channels.get(sid) === channel) this.#channels.delete(sid); // else it is others' by now
    const wait = this.#backoff.next();
    for (const { on } of channel.readers) {
      if (ofProtocol(error)) on.gone({ code: error.code, message: error.message }); // an Error on its way to a page loses its code
      else on.lost(error.code, 0, wait);
    }
    this.#settle();
  }

  #endThoseAtTheEnd({ notice }, joining) {
    if (!notice || notice.status === "running") return;
    for (const { after, on } of joining) if (after && seqOf(after) === notice.seq) on.end();
  }

  #leave(sid, channel, reader) {
    if (!channel.readers.delete(reader) || channel.readers.size || this.#channels.get(sid) !== channel) return;
    this.#channels.delete(sid);
    if (this.#isOpen() && !channel.final) this.#send({ type: "detach", session: sid });
    this.#settle();
  }

  #settle() {
    clearTimeout(this.#idle);
    if (this.#channels.size) return;
    this.#idle = setTimeout(() => {
      if (this.#channels.size) return;
      if (this.#asked.size) return this.#settle();
      this.#lose("idle");
      this.#forget();
    }, IDLE);
  }

  #take({ session: sid, ...item }) {
    if (item.type === "reply") return this.#replied(item, sid);
    const channel = this.#channels.get(sid);
    if (!channel) return;
    if (item.type === "session") return this.#join(channel, item);
    if (item.type === "reset" && item.reason === "gone") {
      return this.#refuse(sid, channel, { code: "gone", message: "The session is gone." });
    }
    if (FINAL.has(item.type)) channel.final = true;
    for (const reader of [...channel.readers]) if (reader.active) this.#give(sid, channel, reader, item);
  }

  #replied({ ref, ok, error, type, ...answer }, sid) {
    const waiting = this.#asked.get(ref);
    this.#asked.delete(ref);
    if (ok) waiting?.resolve({ id: sid, ...answer });
    else waiting?.reject(problem(error));
  }

  #join(channel, notice) {
    channel.notice = notice;
    for (const reader of channel.joining) {
      const isNew = !reader.active;
      reader.active = reader.behind = true;
      if (isNew && channel.readers.has(reader)) { reader.on.open(); reader.on.item(notice); }
    }
    channel.joining = [];
  }

  #give(sid, channel, reader, item) {
    if (item.type === "reset") { reader.after = null; reader.behind = false; channel.notice = null; }
    if (NOTICES.has(item.type)) return reader.on.item(item);
    if (reader.behind) {
      const seq = seqOf(item.id), have = seqOf(reader.after);
      if (seq < have) return; // it is for somebody else
      reader.behind = false;
      if (seq === have) return item.id === reader.after || this.#diverged(sid, channel, reader, item);
    }
    reader.after = item.id;
    this.#backoff.worked();
    reader.on.item(item);
  }

  // What this reader holds is not what the log holds.
  #diverged(sid, channel, reader, { id }) {
    reader.after = null;
    reader.active = false;
    reader.on.item({ type: "reset", reason: "diverged", epoch: Number(id.split("-")[0]) });
    this.#sync(sid, channel);
  }
}

const PASSING = new Set(["store_unavailable", "draining", "rate_limited", "too_slow", "internal_error"]);
const ofProtocol = ({ code, status = 400 }) => isFinal(status) && !PASSING.has(code);
