// Making elements, briefly.

/** Make an element; properties are set, `data` and `aria` become attributes, and what is left is appended. */
export function make(name, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  Object.assign(element.dataset, data);
  for (const [key, value] of Object.entries(aria)) element.setAttribute(`aria-${key}`, value);
  element.append(...children);
  return element;
}

/** Set an element's text, if that changes it. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

const live = document.getElementById("live");
let waiting = [], timer = null;

/** Have a screen reader say something: one thing after the other, each whole, not each token. */
export function announce(text) {
  waiting.push(text);
  timer ??= setTimeout(() => {
    live.replaceChildren(...waiting.map((text) => make("p", {}, text)));
    waiting = [];
    timer = null;
  }, 600);
}
