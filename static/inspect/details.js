// One session: its facts, who watches, what may be done to it, and its log if somebody asks for that.

import { session as look } from "../client/tokenwire.js";
import { call, serverOf } from "../client/http.js";
import { announce, make, put } from "../page/dom.js";
import { key } from "../page/store.js";
import { Log } from "./log.js";
import { bytes, clock, format, number, stateOf, time } from "./words.js";

const at = (id) => document.getElementById(id);
const SURE = "Abort for good?";
const TRIES = 6, AGAIN = 500;

export class Details {
  sid = null;
  #log = null; #terms = new Map(); #busy = false; #timings = null;

  constructor() {
    for (const button of at("acts").children) {
      button.addEventListener("click", () => this.#act(button));
      button.addEventListener("blur", () => this.#calm());
    }
    at("read").addEventListener("click", () => this.#read());
  }

  open(sid) {
    this.close();
    this.sid = sid;
    put(at("sid"), sid);
    put(at("outcome"), "");
    at("details").hidden = false;
    document.body.dataset.open = "";
    at("who").focus();
  }

  close() {
    this.#log?.close();
    this.#log = this.#timings = this.sid = null;
    this.#calm();
    at("facts").replaceChildren();
    this.#terms.clear();
    at("viewers").replaceChildren();
    at("lines").replaceChildren();
    at("lines").parentElement.hidden = true;
    at("read").hidden = false;
    at("details").hidden = true;
    delete document.body.dataset.open;
  }

  /** Draw what the newest second says of it; nothing, if it is not live any more. */
  draw(session) {
    for (const button of at("acts").children) {
      const fits = { pause: !session?.paused && session?.status === "running", resume: session?.paused, abort: session?.status === "running" };
      button.disabled = session !== undefined && !fits[button.dataset.act];
    }
    if (!session) return this.#fact("State", this.#terms.has("Events") ? "not among the live sessions any more" : "not among the live sessions");
    const { producer } = session;
    this.#fact("State", stateOf(session));
    this.#fact("Started", session.created ? `${clock(session.created)}, ${time(Math.max(0, Date.now() - session.created))} ago` : "–");
    this.#fact("Model", session.model || "–");
    if (session.conversation) this.#fact("Conversation", session.conversation);
    if (session.principal) this.#fact("Owner", session.principal);
    this.#fact("Events", number(session.seq));
    this.#fact("Rate", session.rate == null ? "–" : `${number(session.rate)} a second`);
    this.#fact("Gate", session.gate == null ? "open" : `shut behind event ${session.gate}`);
    this.#fact("Epoch", String(session.epoch));
    this.#fact("Fence", session.fence);
    this.#fact("Produced by", producer ? `${producer.node}${producer.lingering ? ", ended; kept to heal" : ""}` : "–");
    this.#fact("Lease", producer ? `${time(Math.max(0, producer.lease * 1000))} left` : "–");
    this.#fact("Not yet in Redis", bytes(producer?.queue_bytes));
    this.#fact("Held by a pause", `${bytes(producer?.held_bytes)}${producer?.waiting ? ", the upstream waits" : ""}`);
    this.#fact("Lag", `${number(session.behind)} events`);
    this.#times();
    this.#viewers(session.viewers);
  }

  #fact(name, text) {
    if (!this.#terms.has(name)) {
      const value = make("dd");
      this.#terms.set(name, value);
      at("facts").append(make("div", {}, make("dt", {}, name), value));
    }
    put(this.#terms.get(name), text);
  }

  #times() {
    if (this.#timings?.first_token_ms != null) this.#fact("First token after", time(this.#timings.first_token_ms));
    if (this.#timings?.duration_ms != null) this.#fact("Ended after", time(this.#timings.duration_ms));
  }

  #viewers(nodes) {
    const lines = Object.entries(nodes).map(([node, formats]) => `${node}: ${Object.entries(formats).map(([name, count]) => `${count} ${format(name)}`).join(", ")}`);
    const shown = lines.length ? lines : ["nobody"];
    if (shown.join() !== [...at("viewers").children].map(({ textContent }) => textContent).join()) {
      at("viewers").replaceChildren(...shown.map((line) => make("li", {}, line)));
    }
  }

  async #act(button) {
    const { act } = button.dataset, { sid } = this;
    if (act === "abort" && button.textContent !== SURE) return put(button, SURE);
    this.#calm();
    if (this.#busy) return;
    this.#busy = true;
    put(at("outcome"), "…");
    const asked = performance.now();
    let said;
    try {
      const answer = await call(serverOf({ token: key() }), `v1/sessions/${encodeURIComponent(sid)}/${act}`, { method: "POST" });
      said = outcome(act, answer, time(performance.now() - asked));
    } catch ({ message }) {
      said = message;
    }
    this.#busy = false;
    if (this.sid === sid) put(at("outcome"), said);
  }

  #calm() { put(at("acts").querySelector("[data-act=abort]"), "Abort"); }

  async #read() {
    const { sid } = this;
    at("read").hidden = true;
    const box = at("lines").parentElement;
    box.hidden = false;
    box.focus();
    this.#log = new Log(sid, key(), at("lines"), async (error) => {
      if (!error) return this.#look(sid, TRIES);
      announce(error.message);
      at("lines").append(make("li", {}, make("span", { className: "said" }, error.message)));
    });
    await this.#look(sid, 1);
  }

  /** Learn its timings, which its producer tells a little after the end. */
  async #look(sid, tries) {
    const found = await look(sid, { token: key() }).catch(() => null); // the log says what is wrong
    if (this.sid !== sid) return;
    this.#timings = found?.timings;
    this.#times();
    if (!this.#timings && tries > 1) setTimeout(() => this.#look(sid, tries - 1), AGAIN);
  }
}

function outcome(act, answer, took) {
  if (act === "pause") return answer.paused ? `Paused behind event ${answer.gate}, confirmed in ${took}.` : `Not paused: it is ${answer.status}.`;
  if (act === "resume") return `Resumed, confirmed in ${took}.`;
  const ended = answer.status === "aborted" ? `Aborted at ${answer.id}` : `It had ended before: ${answer.status}`;
  const { upstream_closed: closed, upstream_close_ms: ms, node } = answer;
  if (!closed) return `${ended}. The model server's connection is not confirmed closed yet.`;
  return `${ended}. The model server's connection was closed${ms == null ? "" : ` in ${time(ms)}`} by ${node}.`;
}
