// Markdown that grows: each block is rendered once it is whole, and only the last one again and again.

import { Marked } from "../vendor/marked.js";
import "../vendor/purify.js";

const { DOMPurify } = globalThis;
const TAGS = "a b blockquote br code del em h3 h4 h5 h6 hr i li ol p pre s strong table tbody td th thead tr ul".split(" ");
const RULES = { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href", "start", "title"], ALLOW_DATA_ATTR: false, RETURN_DOM_FRAGMENT: true };
// Of each so many milliseconds, one is spent on rendering.
const FAIR = 5;

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// What a model writes is text: its HTML is shown, not obeyed, and its images are not fetched.
const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    image({ href, text }) { return `<a href="${escaped(href)}">${escaped(text || href)}</a>`; },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const name = `h${Math.min(6, depth + 2)}`;
      return `<${name}>${this.parser.parseInline(tokens)}</${name}>`;
    },
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!/^(https?:|mailto:)/i.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.target = "_blank";
    node.rel = "noopener noreferrer nofollow";
  } else if (node.tagName === "PRE") node.tabIndex = 0; // it scrolls
});

const render = (tokens) => DOMPurify.sanitize(marked.parser(tokens), RULES);

export class Markdown {
  text = "";
  #root; #told; #open = ""; #last = []; #ready = 0; #dirty = false;

  /** Draw into `root`; `told` is called with the text of each block that is whole. */
  constructor(root, told = () => {}) {
    this.#root = root;
    this.#told = told;
  }

  add(text) {
    const clean = text.replaceAll("\r", "");
    this.text += text;
    this.#open += clean;
    this.#dirty = true;
  }

  /** Draw what is new; returns whether there is more to do at another time. */
  paint(whole = false) {
    const began = performance.now();
    if (!this.#dirty && !whole) return false;
    if (began < this.#ready && !whole) return true;
    this.#dirty = false;
    const tokens = marked.lexer(this.#open);
    let last = tokens.length - 1;
    while (last > 0 && tokens[last].type === "space") last -= 1;
    const closed = whole ? tokens : tokens.slice(0, Math.max(last, 0));
    const fragment = new DocumentFragment();
    if (closed.length) {
      fragment.append(render(closed));
      this.#open = this.#open.slice(closed.reduce((sum, { raw }) => sum + raw.length, 0));
      for (const node of fragment.children) this.#told(node.textContent);
    }
    const open = whole ? [] : [...render(tokens.slice(Math.max(last, 0))).childNodes];
    for (const node of this.#last) node.remove();
    fragment.append(...open);
    this.#last = open;
    this.#root.append(fragment);
    this.#ready = performance.now() + FAIR * (performance.now() - began);
    return false;
  }
}
