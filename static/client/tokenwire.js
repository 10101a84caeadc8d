// A client that reconnects: one session, either transport, every event once and in order.

const FINAL = new Set(["done", "aborted", "error"]);
const NOTICES = new Set(["session", "paused", "resumed", "reset", "moving"]);
const SILENCE = 30_000; // twice the server's keep-alive
const BACKOFF = { least: 200, most: 5_000 };

/** Open a stream on session `sid`; `after` is the id of the last event you have. */
export function connect(sid, { transport = "sse", after = null, base = "" } = {}) {
  return new TokenStream(sid, transport, after, base);
}

/** Start a session; `body` is that of POST /v1/sessions. Resolves with the session object. */
export async function start(body, base = "") {
  return ask(`${base}/v1/sessions`, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

async function ask(url, options) {
  const response = await fetch(url, { method: "POST", ...options });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer;
}

/** Events by `for await` and by `on(type, listener)`; also "open", "lost", "event" and "end". */
export class TokenStream {
  #sid; #transport; #base; #wire = null; #retries = 0; #timer = null; #closed = false;
  #listeners = new Map(); #queue = []; #waiting = null;

  constructor(sid, transport, after, base) {
    this.#sid = sid;
    this.#transport = transport;
    this.#base = base;
    this.after = after;
    queueMicrotask(() => this.#open());
  }

  get transport() { return this.#transport; }

  on(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
    return this;
  }

  pause() { return this.#control("pause"); }
  resume() { return this.#control("resume"); }
  abort() { return this.#control("abort"); }

  /** Go on over the other transport, from the same cursor. */
  switch(transport) {
    if (transport === this.#transport || this.#closed) return;
    this.#transport = transport;
    this.#hangUp();
    this.#open();
  }

  /** Lose the connection, as a bad network would; the stream comes back by itself. */
  cut() {
    this.#hangUp();
    this.#lost("cut");
  }

  close() {
    this.#closed = true;
    this.#hangUp();
    clearTimeout(this.#timer);
    this.#waiting?.({ done: true });
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      const item = this.#queue.shift();
      if (item) yield item;
      else if (this.#closed) return;
      else if ((await new Promise((resolve) => { this.#waiting = resolve; })).done && !this.#queue.length) return;
    }
  }

  #control(action) { return ask(`${this.#base}/v1/sessions/${this.#sid}/${action}`); }

  #open() {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    const make = this.#transport === "ws" ? socketWire : fetchWire;
    const wire = make(this.#base, this.#sid, this.after, {
      open: () => this.#isCurrent(wire) && this.#emit("open", { transport: this.#transport }),
      item: (item) => this.#isCurrent(wire) && this.#take(item),
      end: () => this.#isCurrent(wire) && this.#end({ type: "end" }),
      gone: (error) => this.#isCurrent(wire) && this.#end({ type: "error", retryable: false, ...error }),
      lost: (why) => this.#isCurrent(wire) && (this.#hangUp(), this.#lost(why)),
    });
    this.#wire = wire;
  }

  #isCurrent(wire) { return this.#wire === wire && !this.#closed; }

  #hangUp() {
    const wire = this.#wire;
    this.#wire = null;
    wire?.close();
  }

  #lost(why) {
    const most = Math.min(BACKOFF.most, BACKOFF.least * 2 ** this.#retries++);
    const wait = Math.random() * most; // full jitter: a crowd must not come back as one
    this.#emit("lost", { why, wait });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  #take(item) {
    if (NOTICES.has(item.type)) {
      if (item.type === "reset") this.after = null;
      this.#emit(item.type, item);
      return;
    }
    if (!this.#follows(item)) return;
    this.after = item.id;
    this.#retries = 0;
    this.#queue.push(item);
    this.#waiting?.({ done: false });
    this.#emit("event", item);
    this.#emit(item.type, item);
    if (FINAL.has(item.type)) this.#end({ type: "end", final: item });
  }

  // Never a gap, never a repetition: one is reported, and read again from the cursor.
  #follows(item) {
    const seq = Number(item.id.split("-")[1]);
    const have = this.after ? Number(this.after.split("-")[1]) : 0;
    if (seq - (item.n ?? 1) === have) return true;
    this.#emit("gap", { have, got: seq });
    this.#hangUp();
    this.#lost("gap");
    return false;
  }

  #end(item) {
    this.#emit("end", item);
    this.close();
  }

  #emit(type, item) { for (const listener of this.#listeners.get(type) ?? []) listener(item); }
}

// SSE over fetch: unlike EventSource it shows keep-alives, so a silent connection is noticed.
function fetchWire(base, sid, after, on) {
  const aborter = new AbortController();
  const watch = watchdog(() => { on.lost("silence"); });
  const headers = after ? { "Last-Event-ID": after } : {};
  (async () => {
    const response = await fetch(`${base}/v1/sessions/${sid}/events`, {
      headers: { Accept: "text/event-stream", ...headers }, signal: aborter.signal, cache: "no-store",
    });
    if (response.status === 204) return on.end();
    if (!response.ok) {
      const { error } = await response.json();
      return response.status < 500 && response.status !== 429 ? on.gone(error) : on.lost(error.code);
    }
    on.open();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      watch.alive();
      const blocks = (buffer + piece.value).split("\n\n");
      buffer = blocks.pop();
      for (const block of blocks) readBlock(block, on);
    }
    on.lost("ended");
  })().catch((error) => on.lost(error.name)).finally(watch.stop);
  return { close() { watch.stop(); aborter.abort(); } };
}

function readBlock(block, on) {
  const fields = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
  }
  if (fields.data === undefined || fields.data === "[DONE]") return;
  const item = JSON.parse(fields.data);
  on.item(fields.event ? { ...item, type: fields.event } : { id: fields.id, ...item });
}

function socketWire(base, sid, after, on) {
  const url = new URL(`${base}/v1/sessions/${sid}/ws`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (after) url.searchParams.set("after", after);
  const socket = new WebSocket(url);
  const watch = watchdog(() => { on.lost("silence"); }, () => socket.readyState === 1 && socket.send('{"type":"ping"}'));
  socket.onopen = () => on.open();
  socket.onmessage = ({ data }) => {
    watch.alive();
    const item = JSON.parse(data);
    if (item.type !== "pong" && item.type !== "reply") on.item(item);
  };
  socket.onclose = ({ code }) => {
    watch.stop();
    if (code === 1000) on.end();
    else if (code >= 4400 && code !== 4408 && code !== 4429) on.gone({ code: String(code), message: "The session is gone." });
    else on.lost(`closed ${code}`);
  };
  return { close() { watch.stop(); socket.onclose = socket.onmessage = null; socket.close(); } };
}

function watchdog(silent, nudge = () => {}) {
  let timer = setTimeout(silent, SILENCE);
  const nudger = setInterval(nudge, SILENCE / 2);
  return {
    alive() { clearTimeout(timer); timer = setTimeout(silent, SILENCE); },
    stop() { clearTimeout(timer); clearInterval(nudger); },
  };
}
