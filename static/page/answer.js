// One answer on the page: text as Markdown, reasoning and tool calls folded away.

import { make, put } from "./dom.js";
import { Markdown } from "./markdown.js";

const KINDS = { content: "text", reasoning: "reasoning", tool_call: "tool", bytes: "tool" };

export class Answer {
  element = make("div", { className: "reply" });
  parts = [];
  #told; #folds = new Set();

  /** `told` is called with each paragraph that is whole. */
  constructor(told) { this.#told = told; }

  get text() { return this.parts.filter(({ kind }) => kind === "text").map(({ markdown }) => markdown.text).join(""); }

  add(event) {
    const kind = KINDS[event.type];
    if (!kind) return;
    const last = this.parts.at(-1);
    const same = last?.kind === kind && last.index === event.index;
    const part = same ? last : this.#begin({ kind, index: event.index, name: event.name ?? event.type });
    this.#append(part, event.content ?? event.arguments ?? event.data ?? "");
  }

  /** Show what was kept of an answer. */
  restore(parts) {
    for (const { kind, name, text } of parts) this.#append(this.#begin({ kind, name, text: "" }), text);
    this.paint(true);
  }

  /** What of an answer is kept. */
  kept() { return this.parts.map(({ kind, name, text, markdown }) => ({ kind, name, text: markdown?.text ?? text })); }

  /** Draw what is new; returns whether there is more to do at another time. */
  paint(whole = false) {
    for (const part of this.#folds) put(part.body, pretty(part, whole));
    this.#folds.clear();
    let more = false;
    for (const part of this.parts) if (part.markdown) more = part.markdown.paint(whole || part !== this.parts.at(-1)) || more;
    return more;
  }

  clear() {
    this.parts = [];
    this.#folds.clear();
    this.element.replaceChildren();
  }

  #begin(part) {
    if (part.kind === "text") {
      const root = make("div", { className: "text" });
      part.markdown = new Markdown(root, this.#told);
      this.element.append(root);
    } else {
      part.text = "";
      part.body = make(part.kind === "tool" ? "pre" : "div", part.kind === "tool" ? { tabIndex: 0 } : {});
      const title = part.kind === "tool" ? `Tool call: ${part.name}` : "Reasoning";
      this.element.append(make("details", { className: "fold" }, make("summary", {}, title), part.body));
    }
    this.parts.push(part);
    return part;
  }

  #append(part, text) {
    if (part.markdown) return part.markdown.add(text);
    part.text += text;
    this.#folds.add(part);
  }
}

function pretty({ kind, text }) {
  if (kind !== "tool") return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not whole yet.
    return text;
  }
}
