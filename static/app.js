// The page: conversations, the prompt, and one or two readers of the same answer.

import "./page/trusted.js";
import { models, start } from "./client/tokenwire.js";
import { Answer } from "./page/answer.js";
import { announce, clone, make, put } from "./page/dom.js";
import { Pane } from "./page/pane.js";
import * as store from "./page/store.js";

const at = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const MODEL = "demo"; // the one whose own parameters the page knows
const REASONS = { user: "Stopped", orphaned: "Stopped: nobody was reading", limit: "Stopped at the server's limit", shutdown: "Stopped: the server shut down" };

let chat = store.fresh();
let painting = false;
const main = new Pane("Answer", store.kept("transport") ?? store.remembered("transport") ?? "sse", { change: changed, end: ended, locked });
let second = null;
at("panes").append(main.element);

// Drawing

function changed() {
  store.keep("transport", main.transport);
  store.remember("transport", main.transport); // for the next tab
  if (!painting && (main.live || second?.live)) {
    painting = true;
    requestAnimationFrame(paint);
  }
  main.measure();
  second?.measure();
  compare();
  const { live } = main;
  const had = document.activeElement;
  at("send").hidden = live;
  at("hold").hidden = at("stop").hidden = !live;
  at("hold").disabled = at("stop").disabled = !main.stream;
  put(at("hold"), main.state === "paused" ? "Resume" : "Pause");
  if (!live && (had === at("hold") || had === at("stop"))) at("prompt").focus(); // the keyboard's place is not lost
}

function paint() {
  const more = [main, second].map((pane) => pane?.paint()).includes(true);
  painting = more || main.live || Boolean(second?.live);
  if (painting) requestAnimationFrame(paint);
}

(function measure() {
  main.measure();
  second?.measure();
  compare();
  setTimeout(measure, calm.matches ? 1000 : 125);
})();

function compare() {
  if (!second?.answer) return put(at("match"), "");
  const one = main.answer?.text ?? textOf(chat.turns.at(-1)), other = second.answer.text;
  const shared = Math.min(one.length, other.length), ahead = Math.abs(one.length - other.length);
  const same = one.slice(0, shared) === other.slice(0, shared);
  at("match").toggleAttribute("data-bad", !same);
  at("match").toggleAttribute("data-off", same && ahead > 0);
  put(at("match"), !same ? "The two differ" : ahead ? `${shared} characters alike, one ${ahead} ahead` : `✓ The same ${shared} characters in both`);
}

const textOf = ({ parts = [] }) => parts.filter(({ kind }) => kind === "text").map(({ text }) => text).join("");

// Conversations

function list() {
  const kept = store.all();
  at("list").replaceChildren(...kept.map((item) => {
    const current = item.id === chat.id;
    const open = make("button", { type: "button", className: "open", aria: current ? { current: "page" } : {}, data: store.isLive(item) ? { live: "" } : {} }, item.title);
    open.addEventListener("click", () => { location.hash = item.id; menu(false); });
    const drop = make("button", { type: "button", className: "drop", aria: { label: `Delete: ${item.title}` } }, "×");
    drop.addEventListener("click", () => {
      store.drop(item.id);
      if (current) location.hash = "";
      list();
      at("new").focus();
    });
    return make("li", {}, open, drop);
  }));
}

function show(next) {
  chat = next;
  main.rest();
  put(at("title"), chat.title);
  document.title = chat.title ? `${chat.title} · tokenwire` : "tokenwire";
  main.thread.replaceChildren(...(chat.turns.length ? [] : [welcome()]));
  for (const turn of chat.turns) {
    const answer = place(turn);
    if (turn.final) {
      answer.restore(turn.parts ?? []);
      conclude(answer, turn);
    } else read(turn, answer);
  }
  const last = chat.turns.at(-1);
  if (last?.final) main.rest({ done: "done", aborted: "stopped", error: "failed" }[last.final.type] ?? "gone", last.event);
  if (last) {
    remain(chat.id);
    main.thread.scrollTop = main.thread.scrollHeight;
  }
  mirror();
  list();
  changed();
}

function welcome() {
  const element = clone("welcome");
  for (const button of element.querySelectorAll("button")) {
    button.addEventListener("click", () => { at("prompt").value = button.textContent; at("ask").requestSubmit(); });
  }
  return element;
}

/** Put a turn on the page; returns where its answer goes. */
function place(turn, thread = main.thread) {
  const answer = new Answer(thread === main.thread ? announce : undefined);
  const unseen = (text) => make("h2", { className: "unseen" }, text);
  const asked = make("div", { className: "ask" }, make("span", {}, turn.prompt));
  thread.append(make("div", { className: "turn" }, unseen("You asked"), asked, unseen("Answer"), answer.element));
  return answer;
}

function conclude(answer, { final, tokens, prompt }) {
  const line = make("p", { className: "end" });
  if (final.type === "done") line.append(`Done, ${tokens} tokens`);
  else if (final.type === "aborted") line.append(`${REASONS[final.reason]} after ${tokens} tokens`);
  else line.append(final.type === "gone" ? "The server does not keep this answer any more." : final.message);
  line.classList.toggle("bad", final.type === "error");
  if (final.type === "error" || final.type === "gone") line.append(button("Send again", () => { if (!main.live) ask(prompt); }));
  if (answer.text && navigator.clipboard) {
    const copy = button("Copy", async () => {
      await navigator.clipboard.writeText(answer.text);
      put(copy, "Copied");
    });
    line.append(copy);
  }
  answer.element.append(line);
}

function button(text, act) {
  const element = make("button", { type: "button" }, text);
  element.addEventListener("click", act);
  return element;
}

// An answer

/** Read a turn's session, or ask for it again: a key starts nothing twice. */
async function read(turn, answer, sent = null) {
  const mine = chat;
  main.expect(answer);
  changed();
  try {
    turn.sid ??= (await start(turn.body, { key: turn.key, token: store.key() })).id;
  } catch (error) {
    if (chat !== mine) return;
    if (error.code === "unauthorized") {
      main.rest("locked"); // it is asked for again once there is a key
      return locked();
    }
    main.rest("failed");
    finish(turn, { type: "error", message: error.message }, answer);
    return;
  }
  delete turn.body;
  if (store.load(mine.id)) store.save(mine); // else it was deleted meanwhile
  if (chat !== mine) return;
  main.follow(turn.sid, answer, sent);
  mirror();
}

function ended(final, answer, event, tokens) {
  const turn = chat.turns.at(-1);
  Object.assign(turn, { event, tokens, parts: answer.kept() });
  finish(turn, final, answer);
  announce(`Answer ${final.type === "done" ? "complete" : "ended"}, ${tokens} tokens.`);
}

function finish(turn, { type, reason, message }, answer) {
  turn.final = { type, reason, message };
  delete turn.body;
  store.save(chat);
  conclude(answer, turn);
  main.keepUp();
  list();
  changed();
}

function ask(prompt) {
  const history = chat.turns.flatMap((turn) => [
    { role: "user", content: turn.prompt },
    { role: "assistant", content: textOf(turn) },
  ]);
  const body = { ...parameters(), messages: [...history, { role: "user", content: prompt }] };
  const key = `page-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const turn = { prompt, body, key, tokens: 0 };
  if (!chat.turns.length) {
    chat.title = prompt.slice(0, 80);
    main.thread.replaceChildren();
  }
  chat.turns.push(turn);
  chat.at = Date.now();
  store.save(chat);
  remain(chat.id);
  put(at("title"), chat.title);
  const sent = performance.now();
  const answer = place(turn);
  main.thread.scrollTop = main.thread.scrollHeight;
  list();
  return read(turn, answer, sent);
}

function parameters() {
  const model = at("model").value, found = model ? { model } : {};
  for (const input of at("options").querySelectorAll("input")) {
    if (input.closest(".demo") && model !== MODEL) continue;
    if (input.type === "checkbox") found[input.name] = input.checked;
    else if (input.value !== "") found[input.name] = Number(input.value);
  }
  return found;
}

/** Open, fill or close the second reader, which starts over the other transport. */
function mirror() {
  const wanted = at("both").checked;
  if (!wanted) {
    second?.rest();
    second?.element.remove();
    second = null;
    return;
  }
  const turn = chat.turns.at(-1);
  if (!second) {
    second = new Pane("The same answer, read once more", main.transport === "ws" ? "sse" : "ws", { change: changed, end: () => {}, locked });
    at("panes").append(second.element);
  }
  if (turn?.sid && second.following === turn.sid) return;
  second.rest();
  second.thread.replaceChildren(...(turn?.sid ? [] : ["What you ask is read here a second time, over the other transport."]));
  if (turn?.sid) second.follow(turn.sid, place(turn, second.thread));
  changed();
}

// What a person does

let busy = false;
async function act(work) {
  if (busy) return; // not by disabling a button: that would take the keyboard's place away
  busy = true;
  put(at("problem"), "");
  try {
    await work();
  } catch (error) {
    if (error.code === "unauthorized") locked();
    else put(at("problem"), error.message);
  }
  busy = false;
  at("problem").hidden = !at("problem").textContent;
  changed();
}

/** Ask for a key: there is none, or it is not good any more. */
function locked() {
  put(at("wrong"), store.key() ? "The server does not take this key." : "");
  at("ask").hidden = true;
  at("door").hidden = false;
  at("key").focus();
  changed();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  store.keep("key", at("key").value.trim());
  at("key").value = "";
  at("door").hidden = true;
  at("ask").hidden = false;
  at("prompt").focus();
  offer();
  show(chat);
});

const remain = (id) => { store.remember("chat", id); history.replaceState(null, "", `#${id}`); };

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = at("prompt").value.trim();
  if (!prompt || main.live) return;
  at("prompt").value = "";
  at("options").open = false;
  ask(prompt);
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("hold").addEventListener("click", () => act(() => (main.state === "paused" ? main.stream.resume() : main.stream.pause())));
at("stop").addEventListener("click", () => act(async () => {
  const { upstream_closed: closed, upstream_close_ms: ms } = await main.stream.abort();
  main.note(closed ? `The model server's connection was closed in ${ms < 1 ? "under 1" : Math.round(ms)} ms` : "The model server's connection is not confirmed closed yet");
}));
at("both").addEventListener("change", () => { store.keep("both", at("both").checked ? "yes" : ""); mirror(); });
at("new").addEventListener("click", () => { location.hash = ""; if (chat.turns.length) show(store.fresh()); menu(false); at("prompt").focus(); });
at("model").addEventListener("change", () => { at("options").querySelector(".demo").hidden = at("model").value !== MODEL; store.remember("model", at("model").value); });

function menu(open) {
  at("side").classList.toggle("shown", open);
  at("menu").setAttribute("aria-expanded", open);
}
at("menu").addEventListener("click", () => menu(at("menu").getAttribute("aria-expanded") !== "true"));
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  if (at("side").classList.contains("shown")) { menu(false); at("menu").focus(); }
  if (at("options").open) { at("options").open = false; at("options").querySelector("summary").focus(); }
});
addEventListener("pointerdown", ({ target }) => {
  if (!at("options").contains(target)) at("options").open = false;
  if (!at("side").contains(target) && !at("menu").contains(target)) menu(false);
});
addEventListener("hashchange", () => {
  const id = location.hash.slice(1);
  if (id === chat.id) return;
  show(store.load(id) ?? store.fresh());
});
store.watch((id) => {
  if (id !== chat.id) return list();
  const other = store.load(id), mine = chat.turns.at(-1), theirs = other?.turns.at(-1);
  if (other && (other.turns.length !== chat.turns.length || (theirs.sid ?? mine.sid) !== mine.sid)) show(other);
  else list();
});

const offer = () => act(async () => {
  const names = await models({ token: store.key() });
  at("model").replaceChildren(...names.map((name) => new Option(name, name)));
  const before = store.remembered("model");
  at("model").value = names.includes(before) ? before : names.find((name) => name !== MODEL) ?? names[0]; // the real ones first
  at("options").querySelector(".demo").hidden = at("model").value !== MODEL;
});
offer();
at("both").checked = store.kept("both") === "yes";
const left = location.hash.slice(1) || store.remembered("chat");
show((left && store.load(left)) || store.fresh());
