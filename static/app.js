// The page: conversations, the prompt, and one or two readers of the same answer.

import "./page/trusted.js";
import { models, start } from "./client/tokenwire.js";
import { Answer } from "./page/answer.js";
import { announce, clone, make, put } from "./page/dom.js";
import { Pane, STATES } from "./page/pane.js";
import * as store from "./page/store.js";

const at = (id) => document.getElementById(id);
const on = (id, type, act) => at(id).addEventListener(type, act);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
// The one whose own parameters the page knows.
const MODEL = "demo";
const REASONS = { user: "Stopped", orphaned: "Stopped: nobody was reading", limit: "Stopped at the server's limit", shutdown: "Stopped: the server shut down" };

let chat = store.fresh();
let painting = false;
const main = new Pane("Answer", store.kept("transport") ?? store.remembered("transport") ?? "sse", { change: changed, end: ended, locked });
let second = null;
at("panes").append(main.element);

// Drawing

function changed() {
  store.keep("transport", main.transport);
  // For the next tab.
  store.remember("transport", main.transport);
  if (!painting && (main.live || second?.live)) {
    painting = true;
    requestAnimationFrame(paint);
  }
  measure();
  const { live } = main;
  const had = document.activeElement;
  at("send").hidden = live;
  at("hold").hidden = at("stop").hidden = !live;
  at("hold").disabled = at("stop").disabled = !main.stream;
  put(at("hold"), main.state === "paused" ? "Resume" : "Pause");
  // The keyboard's place is not lost.
  if (!live && (had === at("hold") || had === at("stop"))) at("prompt").focus();
}

function paint() {
  const more = [main, second].map((pane) => pane?.paint()).includes(true);
  painting = more || main.live || Boolean(second?.live);
  if (painting) requestAnimationFrame(paint);
}

function measure() {
  main.measure();
  second?.measure();
  compare();
}

(function again() {
  measure();
  setTimeout(again, calm.matches ? 1000 : 125);
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
    const open = make("button", { className: "open", aria: current ? { current: "page" } : {}, data: store.isLive(item) ? { live: "" } : {} }, item.title);
    open.addEventListener("click", () => { location.hash = item.id; menu(false); });
    const drop = make("button", { className: "drop", aria: { label: `Delete: ${item.title}` } }, "×");
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
  if (last?.final) main.rest(STATES[last.final.type] ?? "gone", last.event);
  if (last) {
    remain();
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

function conclude(answer, turn) {
  const { final, tokens, prompt } = turn, line = make("p", { className: "end" });
  const whole = ["done", "aborted"].includes(final.type);
  if (final.type === "done") line.append(`Done, ${tokens} tokens`);
  else if (final.type === "aborted") line.append(`${REASONS[final.reason]} after ${tokens} tokens`);
  else if (final.type === "gone") line.append("The server does not keep this answer any more.");
  else line.append(final.type === "unread" ? `This answer could not be read. ${final.message}` : final.message);
  line.classList.toggle("bad", !whole && final.type !== "gone");
  if (final.type === "unread" && turn === chat.turns.at(-1)) {
    line.append(button("Read again", reopen));
    if (store.key()) line.append(button("Use another key", () => locked("")));
  }
  if (!whole) line.append(button("Send again", () => { if (!main.live) ask(prompt); }));
  if (answer.text && navigator.clipboard) {
    const told = (text) => { put(copy, text); announce(text); };
    const copy = button("Copy", () => navigator.clipboard.writeText(answer.text).then(() => told("Copied"), () => told("Not allowed")));
    line.append(copy);
  }
  answer.element.append(line);
}

function button(text, act) {
  const element = make("button", {}, text);
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
      // It is asked for again once there is a key.
      main.rest("locked");
      return locked();
    }
    main.rest("failed");
    finish(turn, { type: "error", message: error.message }, answer);
    return;
  }
  delete turn.body;
  warn(store.update(mine));
  if (chat !== mine) return;
  main.follow(turn.sid, answer, sent);
  mirror();
}

function ended(final, answer, event, tokens) {
  const turn = chat.turns.at(-1);
  Object.assign(turn, { event, tokens, parts: answer.kept() });
  finish(turn, final, answer);
  announce(final.type === "unread" ? final.message : `Answer ${final.type === "done" ? "complete" : "ended"}, ${tokens} tokens.`);
}

function finish(turn, { type, reason, message }, answer) {
  turn.final = { type, reason, message };
  delete turn.body;
  // What could not be read may be read later, or with another key.
  if (type !== "unread") warn(store.update(chat));
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
  warn(store.save(chat));
  remain();
  put(at("title"), chat.title);
  const sent = performance.now();
  const answer = place(turn);
  main.thread.scrollTop = main.thread.scrollHeight;
  list();
  return read(turn, answer, sent);
}

/** Say so if the browser does not keep what is said here. */
function warn(saved) {
  at("unkept").hidden = saved;
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
  // Not by disabling a button: that would take the keyboard's place away.
  if (busy) return;
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
function locked(wrong = store.key() ? "The server does not take this key." : "") {
  put(at("wrong"), wrong);
  at("ask").hidden = true;
  at("door").hidden = false;
  at("key").focus();
  changed();
}

on("door", "submit", (event) => {
  event.preventDefault();
  store.keep("key", at("key").value.trim());
  at("key").value = "";
  at("door").hidden = true;
  at("ask").hidden = false;
  at("prompt").focus();
  offer();
  reopen();
});

const reopen = () => show(store.load(chat.id) ?? chat);
const remain = () => { store.remember("chat", chat.id); history.replaceState(null, "", `#${chat.id}`); };

on("ask", "submit", (event) => {
  event.preventDefault();
  const prompt = at("prompt").value.trim();
  if (!prompt || main.live) return;
  at("prompt").value = "";
  at("options").open = false;
  ask(prompt);
});
on("prompt", "keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
on("hold", "click", () => act(() => (main.state === "paused" ? main.stream.resume() : main.stream.pause())));
on("stop", "click", () => act(async () => {
  const { upstream_closed: closed, upstream_close_ms: ms } = await main.stream.abort();
  main.note(closed ? `The model server's connection was closed in ${ms < 1 ? "under 1" : Math.round(ms)} ms` : "The model server's connection is not confirmed closed yet");
}));
on("both", "change", () => { store.keep("both", at("both").checked ? "yes" : ""); mirror(); });
on("new", "click", () => { location.hash = ""; if (chat.turns.length) show(store.fresh()); menu(false); at("prompt").focus(); });
on("model", "change", () => { at("options").querySelector(".demo").hidden = at("model").value !== MODEL; store.remember("model", at("model").value); });

function menu(open) {
  at("side").classList.toggle("shown", open);
  at("menu").setAttribute("aria-expanded", open);
}
on("menu", "click", () => menu(at("menu").getAttribute("aria-expanded") !== "true"));
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
  const id = location.hash.slice(1), next = id ? store.load(id) : store.fresh();
  if (id === chat.id) return;
  if (next) show(next);
  // No conversation: the way to the prompt, or one that was deleted.
  else if (chat.turns.length) remain();
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
  // The real ones first.
  at("model").value = names.includes(before) ? before : names.find((name) => name !== MODEL) ?? names[0];
  at("options").querySelector(".demo").hidden = at("model").value !== MODEL;
});
offer();
at("both").checked = store.kept("both") === "yes";
show(store.load(location.hash.slice(1)) ?? store.load(store.remembered("chat")) ?? store.fresh());
