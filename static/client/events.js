// The protocol's words.

export const FINAL = new Set(["done", "aborted", "error"]);
export const NOTICES = new Set(["session", "paused", "resumed", "reset", "moving"]);
// Who listens to one of these takes the log so.
export const TAKEN = ["event", "content", "reasoning", "tool_call", "bytes", "second"];
export const CURSOR = /^\d+-\d+$/;

/** Return a cursor's place in the log; 0 for none. */
export const seqOf = (cursor) => (cursor ? Number(cursor.slice(cursor.indexOf("-") + 1)) : 0);
export const epochOf = (cursor) => (cursor ? Number(cursor.slice(0, cursor.indexOf("-"))) : 0);

/** Read an event or a notice. A tool call's own id is its `call_id`, as it is where `id` is the event's. */
export function parse(text, id) {
  const item = JSON.parse(text);
  if (id) {
    if (item.type === "tool_call" && item.id) item.call_id = item.id;
    item.id = id;
  }
  return item;
}
