// The inspector: reads our own stream of seconds, and shows nodes, sessions and the last minutes.

import "../page/trusted.js";
import { inspect } from "../client/tokenwire.js";
import { announce, make, put } from "../page/dom.js";
import * as store from "../page/store.js";
import { Charts, SPAN } from "./charts.js";
import { Details } from "./details.js";
import { Sessions } from "./sessions.js";
import { bytes, clock, number, time, total } from "./words.js";

const at = (id) => document.getElementById(id);
const charts = new Charts(at("charts")), details = new Details();
const sessions = new Sessions(at("list"), show);
let stream = null, seconds = [], known = false, more = 0;

// The stream

function open() {
  stream?.close();
  at("door").hidden = true;
  at("all").hidden = false;
  wire("connecting");
  const mine = stream = inspect({ token: store.key() });
  const heard = {
    open: () => {
      if (!at("lost").hidden) announce("Connected again.");
      at("lost").hidden = true;
      wire("live");
    },
    waiting: () => wire("waiting for a connection of another tab"),
    lost: ({ why }) => {
      wire("reconnecting");
      if (!at("lost").hidden) return;
      put(at("lost"), `The connection is lost (${why}). What is shown is from ${seconds.length ? clock(seconds.at(-1).at) : "nowhere yet"}; it goes on by itself.`);
      at("lost").hidden = false;
    },
    reset: () => { seconds = []; },
    second: take,
    end: ({ error }) => { if (error) refused(error); },
  };
  for (const [type, act] of Object.entries(heard)) mine.on(type, (item) => { if (stream === mine) act(item); });
}

function wire(state) {
  put(at("wire"), state);
  at("wire").dataset.state = { live: "running", reconnecting: "failed" }[state] ?? "";
}

function take({ nodes, sessions: all, more: others, ...second }) {
  seconds.push(second);
  if (!nodes) return; // older than the newest: more will follow at once
  seconds = seconds.filter((kept) => second.at - kept.at <= SPAN);
  known = true;
  more = others;
  put(at("title"), `${nodes.length} ${nodes.length === 1 ? "node" : "nodes"}, as of ${clock(second.at)}`);
  charts.draw(seconds);
  crew(nodes);
  sessions.take(all);
  draw();
}

function crew(nodes) {
  const body = at("crew");
  while (body.rows.length > nodes.length) body.lastChild.remove();
  while (body.rows.length < nodes.length) body.append(make("tr", {}, make("th", { scope: "row", className: "code" }), make("td", {}, make("span", { className: "pill" })), ..."1111".split("").map(() => make("td", { className: "number" })), make("td")));
  nodes.forEach(({ node, state, heard, sessions: { running, paused }, viewers, behind, queue_bytes: queue, redis_down: down }, place) => {
    const [name, pill, ...cells] = body.rows[place].cells;
    put(name, node);
    put(pill.firstChild, state === "silent" ? `silent for ${time(heard * 1000)}` : state);
    pill.firstChild.dataset.state = { serving: "running", draining: "paused", silent: "failed" }[state];
    const texts = [number(running + paused), number(total(viewers)), number(behind), bytes(queue), down ? `away for ${time(down * 1000)}` : "there"];
    texts.forEach((text, cell) => put(cells[cell], text));
  });
}

// The sessions

function draw() {
  const { found, shown } = sessions.draw({ text: at("find").value, state: at("state").value, current: details.sid });
  const rest = found - shown + more;
  put(at("count"), known ? `${shown}${rest ? ` of ${shown + rest}` : ""}` : "");
  at("list").hidden = !shown;
  at("none").hidden = Boolean(shown) || !known;
  at("none").replaceChildren(...(shown || !known ? [] : empty()));
  if (details.sid) details.draw(sessions.find(details.sid));
}

function empty() {
  const text = at("find").value.trim();
  if (/^[A-Za-z0-9_-]{22,64}$/.test(text)) {
    const button = make("button", { type: "button" }, "Look at it all the same");
    button.addEventListener("click", () => show(text));
    return [make("p", {}, "No live session has this id. It may be over, and its log still there."), button];
  }
  if (text || at("state").value) return [make("p", {}, "No session is like that.")];
  return [make("p", {}, "No sessions yet. Ask something on the ", make("a", { href: "./" }, "playground"), ", or start one with ", make("code", {}, "POST /v1/sessions"), ".")];
}

function show(sid) {
  details.open(sid);
  history.replaceState(null, "", `#${sid}`);
  draw();
}

function hide() {
  const { sid } = details;
  details.close();
  history.replaceState(null, "", location.pathname + location.search);
  draw();
  sessions.focus(sid);
}

at("find").addEventListener("input", draw);
at("state").addEventListener("change", draw);
sessions.sorted = draw;
at("close").addEventListener("click", hide);
addEventListener("keydown", ({ key }) => { if (key === "Escape" && details.sid) hide(); });

// Who asks

/** The server refuses: ask for a key if that could help. */
function refused({ code, message }) {
  wire("locked");
  const had = store.key();
  const wrong = { unauthorized: had ? "The server does not take this key." : "", forbidden: "This key does not have the right admin." }[code];
  if (wrong === undefined) {
    wire("closed");
    put(at("lost"), message);
    at("lost").hidden = false;
    return;
  }
  details.close();
  at("all").hidden = true;
  at("door").hidden = false;
  put(at("wrong"), wrong);
  at("key").focus();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  store.keep("key", at("key").value.trim());
  at("key").value = "";
  open();
});

open();
const wanted = location.hash.slice(1);
if (/^[A-Za-z0-9_-]{22,64}$/.test(wanted)) show(wanted);
