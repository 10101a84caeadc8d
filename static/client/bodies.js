// One-way wires: a session as the body of one response, as server-sent events or as NDJSON.
//
// Read by fetch, since EventSource sends no credentials, hides the keep-alives and gives up for good on any status but 200.
//
// A wire reads one connection. It calls
//   on.waiting()         other tabs have all connections: connected later
//   on.open()            connected
//   on.item(item)        an event or a notice
//   on.end()             nothing is missing
//   on.gone(error)       the session cannot be read, now or later
//   on.lost(why, least)  disconnected; come back, not before `least` milliseconds
//   on.unusable(why)     the server is there, but not over this transport
// and has close(), drop() (which says no goodbye), and wake() (is it still alive?).

import { parse } from "./events.js";
import { errorOf, headersOf, isFinal } from "./http.js";
import { place } from "./places.js";
import { FIRST, SILENCE, watchdog } from "./timing.js";

/** Read server-sent events. */
export const sseWire = (server, sid, after, on) => bodyWire(server, sid, after, on, "text/event-stream", readBlocks);

/** Read NDJSON. */
export const fetchWire = (server, sid, after, on) => bodyWire(server, sid, after, on, "application/x-ndjson", readLines);

function bodyWire(server, sid, after, on, accept, read) {
  const aborter = new AbortController();
  let watch, first, leave;
  let wake = () => {}; // while there is no place yet
  const rest = () => { watch?.stop(); clearTimeout(first); leave?.(); };
  const close = () => { rest(); aborter.abort(); };
  const headers = headersOf(server, { Accept: accept, ...(after && { "Last-Event-ID": after }) });

  async function receive() {
    leave = await place(aborter.signal, (ask) => { wake = ask; on.waiting(); }, () => on.lost("given up"));
    if (aborter.signal.aborted) return;
    watch = watchdog(() => on.lost("silence"));
    wake = () => watch.hurry(SILENCE / 2); // nobody can be asked: is a keep-alive due?
    const url = `${server.base}v1/${sid === null ? "inspect" : `sessions/${encodeURIComponent(sid)}/events`}`;
    const response = await fetch(url, { headers, signal: aborter.signal, cache: "no-store" });
    if (response.status === 204) return on.end();
    if (!response.ok) {
      const error = await errorOf(response);
      return isFinal(error.status) ? on.gone(error) : on.lost(error.code, error.wait);
    }
    if (!response.headers.get("Content-Type")?.startsWith(accept)) return on.unusable("content type");
    on.open();
    first = setTimeout(() => on.unusable("held back"), FIRST);
    const reader = response.body.getReader(), decoder = new TextDecoder();
    const state = { rest: "", retry: 0, on };
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      watch.alive();
      clearTimeout(first);
      read(decoder.decode(piece.value, { stream: true }), state);
    }
    on.lost("ended", state.retry);
  }

  receive().catch((error) => on.lost(error instanceof TypeError ? "network" : error.name)).finally(rest);
  return { close, drop: close, wake: () => wake() };
}

function readBlocks(text, state) {
  const blocks = (state.rest + text).split("\n\n");
  state.rest = blocks.pop();
  for (const block of blocks) {
    const fields = {};
    for (const line of block.split("\n")) {
      const at = line.indexOf(": ");
      if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2); // at 0 it is a comment
    }
    // A block with nothing but a retry time is a server that is busy: come again after that.
    state.retry = fields.data === undefined ? Number(fields.retry ?? 0) : 0;
    if (fields.data === undefined || fields.data === "[DONE]") continue;
    state.on.item(fields.event ? { ...JSON.parse(fields.data), type: fields.event } : parse(fields.data, fields.id));
  }
}

function readLines(text, state) {
  const lines = (state.rest + text).split("\n");
  state.rest = lines.pop();
  for (const line of lines) {
    const item = parse(line);
    if (item.type !== "ping") state.on.item(item);
  }
}
