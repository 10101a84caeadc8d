// The page: one session at a time, shown as it comes.
import { connect, start } from "/client/tokenwire.js";

const at = (id) => document.getElementById(id);
const answer = at("answer");
const buttons = ["pause", "resume", "abort", "cut"].map(at);
let stream = null;
let arrivals = [];
let count = 0;

const chosen = () => document.querySelector("input[name=transport]:checked").value;

function note(text) {
  const line = document.createElement("li");
  line.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  at("notices").prepend(line);
  while (at("notices").children.length > 30) at("notices").lastChild.remove();
}

function clear() {
  answer.replaceChildren();
  count = 0;
  arrivals = [];
}

function show(text, kind) {
  const following = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
  const last = answer.lastChild;
  if (last?.className === kind) last.append(text);
  else {
    const span = document.createElement("span");
    span.className = kind;
    span.append(text);
    answer.append(span);
  }
  if (following) answer.scrollTop = answer.scrollHeight;
}

function shown(event) {
  at("event").textContent = event.id;
  at("count").textContent = String(count);
  const now = performance.now();
  arrivals = [...arrivals.filter((when) => now - when < 2000), now];
  at("rate").textContent = `${(arrivals.length / 2).toFixed(0)} / s`;
}

function enable(running, paused = false) {
  for (const button of buttons) button.disabled = !running;
  at("pause").disabled = !running || paused;
  at("resume").disabled = !running || !paused;
}

function follow(sid) {
  sessionStorage.setItem("sid", sid);
  clear();
  stream?.close();
  stream = connect(sid, { transport: chosen() });
  stream
    .on("open", ({ transport }) => {
      at("wire").textContent = transport === "ws" ? "WebSocket" : "SSE";
      note(`connected over ${at("wire").textContent}, after ${stream?.after ?? "the start"}`);
    })
    .on("lost", ({ why, wait }) => {
      at("wire").textContent = "reconnecting";
      note(`connection lost (${why}), again in ${Math.round(wait)} ms`);
    })
    .on("session", ({ status, paused }) => {
      at("status").textContent = paused ? "paused" : status;
      enable(status === "running" || paused, paused);
    })
    .on("paused", ({ gate }) => { at("status").textContent = "paused"; enable(true, true); note(`paused at ${gate}`); })
    .on("resumed", () => { at("status").textContent = "running"; enable(true); note("resumed"); })
    .on("reset", ({ reason }) => { clear(); note(`reset: ${reason}`); })
    .on("gap", ({ have, got }) => note(`refused event ${got} after ${have}`))
    .on("event", (event) => {
      if (event.type === "content" || event.type === "reasoning") {
        count += 1;
        show(event.content, event.type);
      } else if (event.type === "tool_call") {
        show(`${event.name ? `\n${event.name} ` : ""}${event.arguments ?? ""}`, "reasoning");
      }
      shown(event);
    })
    .on("done", ({ finish_reason }) => { at("status").textContent = "done"; note(`done: ${finish_reason}`); })
    .on("aborted", ({ reason }) => { at("status").textContent = "aborted"; note(`aborted: ${reason}`); })
    .on("error", ({ message }) => { at("status").textContent = "error"; show(`\n${message}`, "failed"); })
    .on("end", ({ type, message }) => {
      enable(false);
      at("wire").textContent = "closed";
      if (type === "error") {
        sessionStorage.removeItem("sid");
        at("status").textContent = "gone";
        note(message);
      }
    });
}

async function act(work) {
  try {
    await work();
  } catch (error) {
    note(error.message);
  }
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    const session = await start({ prompt: at("prompt").value, model: at("model").value || undefined });
    follow(session.id);
  });
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("pause").addEventListener("click", () => act(() => stream.pause()));
at("resume").addEventListener("click", () => act(() => stream.resume()));
at("abort").addEventListener("click", () => act(async () => {
  const { upstream_closed: closed, upstream_close_ms: ms } = await stream.abort();
  note(closed ? `upstream closed in ${ms ?? 0} ms` : "upstream not confirmed closed yet");
}));
at("cut").addEventListener("click", () => stream.cut());
for (const radio of document.querySelectorAll("input[name=transport]")) {
  radio.addEventListener("change", () => stream?.switch(chosen()));
}

act(async () => {
  const { data } = await (await fetch("/v1/models")).json();
  at("model").append(...data.map(({ id }) => new Option(id, id)));
});
const left = sessionStorage.getItem("sid");
if (left) follow(left);
