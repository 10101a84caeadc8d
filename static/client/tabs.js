// A page's side of the sockets: those of the shared worker, so that all tabs have one; or, where there is no such
// worker (Node, some phones, a page of another origin), sockets of its own.

import { problem } from "./http.js";
import { SILENCE } from "./timing.js";
import { Sockets } from "./socket.js";

let sockets = null;

/** Read session `sid` over a WebSocket to `server`, as `Sockets.attach` does. */
export function socketWire(server, sid, after, on) {
  sockets ??= sharedSockets() ?? new Sockets();
  return sockets.attach(server, sid, after, on);
}

/** Tell whether there are WebSockets here at all. */
export const hasSockets = () => typeof WebSocket !== "undefined";

function sharedSockets() {
  if (typeof SharedWorker === "undefined" || typeof document === "undefined") return null;
  try {
    return new SharedSockets(new SharedWorker(new URL("./shared.js", import.meta.url), { type: "module", name: "tokenwire 1" }));
  } catch {
    return null; // a page of another origin
  }
}

class SharedSockets {
  #port; #wires = new Map(); #asked = new Map(); #keys = 0; #heard = performance.now(); #spoke = false; #timer = null;

  constructor(worker) {
    this.#port = worker.port;
    this.#port.onmessage = ({ data }) => this.#take(data);
    worker.onerror = () => this.#fail("no worker");
    // What is open keeps a page out of the back/forward cache; it comes back by itself.
    addEventListener("pagehide", () => this.#say({ op: "bye" }));
  }

  attach(server, sid, after, on) {
    const key = ++this.#keys;
    this.#wires.set(key, on);
    this.#heard = performance.now();
    this.#timer ??= setInterval(() => this.#look(), SILENCE / 3);
    this.#say({ op: "attach", key, server, sid, after });
    return {
      close: () => { this.#wires.delete(key); this.#say({ op: "close", key }); },
      drop: () => this.#say({ op: "drop", key }),
      wake: () => this.#say({ op: "wake", key }),
      ask: (action) => new Promise((resolve, reject) => {
        const ref = ++this.#keys;
        this.#asked.set(ref, { resolve, reject });
        this.#say({ op: "ask", key, ref, action });
      }),
    };
  }

  #say(message) { this.#port.postMessage(message); }

  #take({ tick, key, kind, args, ref, answer, error }) {
    this.#heard = performance.now();
    this.#spoke = true;
    if (tick) return this.#say({ op: "tick", keys: [...this.#wires.keys()] });
    if (key) return this.#wires.get(key)?.[kind](...args);
    const waiting = this.#asked.get(ref);
    this.#asked.delete(ref);
    if (error) waiting?.reject(problem(error));
    else waiting?.resolve(answer);
  }

  #look() {
    if (!this.#wires.size && !this.#asked.size) {
      clearInterval(this.#timer);
      this.#timer = null;
    } else if (performance.now() - this.#heard > SILENCE) {
      this.#fail("silence");
    }
  }

  #loseAll(why) {
    const wires = [...this.#wires.values()], asked = [...this.#asked.values()];
    this.#wires.clear();
    this.#asked.clear();
    for (const { reject } of asked) reject(problem({ code: "wire_lost", message: "The connection was lost." }));
    for (const on of wires) on.lost(why, 0, 0);
  }

  // Nobody is told of a worker that dies. One that said something makes way for a new one, which is the same one if it
  // lives; after one that never did, this page has sockets of its own.
  #fail(why) {
    this.#say({ op: "bye" });
    this.#port.close();
    if (sockets === this) sockets = (this.#spoke && sharedSockets()) || new Sockets();
    this.#loseAll(why);
  }
}
