// The client: one session, over any transport, every event once and in order.
//
//   import { connect, start } from "./client/tokenwire.js";
//   const stream = connect(await start({ prompt: "Tell me about streams" }));
//   stream.on("paused", ({ gate }) => …);
//   for await (const event of stream) …
// What each of them does is told in tokenwire.d.ts.

import { call, PASSING, serverOf } from "./http.js";
import { TokenStream } from "./stream.js";
import { Backoff, PATIENCE } from "./timing.js";

export { TokenStream } from "./stream.js";

/** Read a session; `after` is the id of the last event you have, none for the whole log. */
export function connect(session, { transport = "auto", after = null, signal, ...at } = {}) {
  return new TokenStream(session.id ?? session, { transport, after, server: serverOf(at), signal });
}

/** Read how the server's nodes and sessions do, an event `second` each second; for operators. */
export function inspect({ signal, ...at } = {}) {
  return new TokenStream(null, { transport: "sse", after: null, server: serverOf(at), signal });
}

/** Start a session; `body` is that of POST /v1/sessions. What passes is asked for again, and starts nothing twice. */
export async function start(body, { signal, key = newKey(), ...at } = {}) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  const options = { method: "POST", body: JSON.stringify(body), headers, signal };
  const backoff = new Backoff(), until = performance.now() + PATIENCE;
  while (true) {
    try {
      return await call(serverOf(at), "v1/sessions", options);
    } catch (error) {
      const wait = backoff.next(error.wait), passing = PASSING.has(error.status) || error.code === "unreachable";
      if (!passing || performance.now() + wait > until) throw error;
      // An aborted signal ends the wait; the call then says so.
      await new Promise((resolve) => { setTimeout(resolve, wait); signal?.addEventListener("abort", resolve, { once: true }); });
    }
  }
}

/** Resolve with a session object. */
export function session(sid, at = {}) {
  return call(serverOf(at), `v1/sessions/${encodeURIComponent(sid)}`);
}

/** Resolve with the names of the models that may be asked for. */
export async function models(at = {}) {
  return (await call(serverOf(at), "v1/models")).data.map(({ id }) => id);
}

// Not randomUUID: pages without TLS have none.
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
