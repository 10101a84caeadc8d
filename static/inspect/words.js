// Figures as people read them.

const NAMES = { sse: "SSE", websocket: "WebSocket", ndjson: "NDJSON", chat: "OpenAI chat", responses: "OpenAI responses", aisdk: "AI SDK", silence: "waiting for the end" };

export const short = (sid) => `${sid.slice(0, 8)}…`;
export const format = (name) => NAMES[name] ?? name;
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
export const clock = (ms) => new Date(ms).toLocaleTimeString([], CLOCK);
/** With milliseconds. */
export const instant = (ms) => new Date(ms).toLocaleTimeString([], { ...CLOCK, fractionalSecondDigits: 3 });

export const number = (value) => (value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 }));

export function time(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

export function bytes(count) {
  if (!count) return "0";
  const step = count < 1024 ? 0 : count < 1024 ** 2 ? 1 : 2;
  return `${number(count / 1024 ** step)} ${["B", "KiB", "MiB"][step]}`;
}

/** What a session is: `paused` stands beside where its log is. */
export const stateOf = ({ status, paused }) => (status === "running" ? (paused ? "paused" : "running") : paused ? `${status}, held` : status);
/** The word of it that colours a `pill`. */
export const colourOf = ({ status, paused }) => (paused ? "paused" : { running: "running", done: "done", aborted: "stopped", error: "failed" }[status]);

/** How many viewers by format, over all nodes. */
export function viewersOf({ viewers }) {
  const sums = {};
  for (const formats of Object.values(viewers)) {
    for (const [name, count] of Object.entries(formats)) sums[name] = (sums[name] ?? 0) + count;
  }
  return sums;
}

export const total = (sums) => Object.values(sums).reduce((sum, count) => sum + count, 0);
