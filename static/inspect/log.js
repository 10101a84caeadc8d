// One session's log, read along: what comes together is a line, with the time at which it came.

import { connect } from "../client/tokenwire.js";
import { make } from "../page/dom.js";
import { instant } from "./words.js";

const LINES = 300, TOGETHER = 200;
const seq = (id) => id.slice(id.indexOf("-") + 1);
const said = ({ type, id, n, ...rest }) => rest.content ?? rest.arguments ?? rest.data ?? Object.entries(rest).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");

export class Log {
  #list; #box; #stream; #waiting = []; #timer = null; #before = 0;

  /** Read session `sid` into a list, which lies in a box that scrolls; `ended(error)` is called at its end. */
  constructor(sid, token, list, ended) {
    this.#list = list;
    this.#box = list.parentElement;
    list.replaceChildren();
    this.#stream = connect(sid, { transport: "sse", token });
    this.#stream
      .on("session", ({ seq }) => { if (!this.#before) this.#before = seq; })
      .on("event", (event) => this.#take(event))
      .on("paused", ({ gate }) => this.#note(`paused behind event ${gate}`))
      .on("resumed", () => this.#note("resumed"))
      .on("reset", ({ reason }) => { this.#before = 0; this.#note(`begun anew: ${reason}`); })
      .on("lost", ({ why }) => this.#note(`connection lost: ${why}`))
      .on("end", ({ error }) => { this.#draw(); ended(error); });
  }

  close() {
    clearTimeout(this.#timer);
    this.#stream.close();
  }

  #take(event) {
    this.#waiting.push({ event, at: Date.now() });
    this.#timer ??= setTimeout(() => this.#draw(), TOGETHER);
  }

  #note(text) {
    this.#draw();
    this.#add(instant(Date.now()), "", "", text);
  }

  /** Draw what waits: neighbours of one kind as one line. */
  #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const groups = [];
    for (const { event, at } of this.#waiting) {
      const earlier = Number(seq(event.id)) <= this.#before, last = groups.at(-1);
      if (last?.type === event.type && last.earlier === earlier) Object.assign(last, { to: seq(event.id), count: last.count + 1, text: last.text + said(event) });
      else groups.push({ type: event.type, earlier, at, from: seq(event.id), to: seq(event.id), count: 1, text: said(event) });
    }
    this.#waiting = [];
    for (const { type, earlier, at, from, to, count, text } of groups.slice(-LINES)) {
      this.#add(earlier ? "before" : instant(at), from === to ? from : `${from}–${to}`, count > 1 ? `${type} ×${count}` : type, text);
    }
  }

  #add(when, ids, kind, text) {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    const pinned = scrollHeight - scrollTop - clientHeight < 40;
    this.#list.append(make("li", {}, make("span", { className: "code" }, when), make("span", { className: "code" }, ids), make("b", {}, kind), make("span", { className: "said" }, text)));
    while (this.#list.children.length > LINES) this.#list.firstChild.remove();
    if (pinned) this.#box.scrollTop = this.#box.scrollHeight;
  }
}
