// Conversations, kept in this browser: one entry each, so that tabs do not overwrite each other's.

const PREFIX = "tokenwire.chat.";
const MOST = 40;

/** All conversations, the newest first. */
export function all() {
  const found = [];
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i);
    if (key.startsWith(PREFIX)) found.push(load(key.slice(PREFIX.length)));
  }
  return found.filter(Boolean).sort((a, b) => b.at - a.at);
}

export function load(id) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + id));
  } catch {
    return null;
  }
}

/** Begin a conversation; it is kept from its first prompt on. */
export const fresh = () => ({ id: Math.random().toString(36).slice(2, 12), title: "", at: Date.now(), turns: [] });

export function save(chat) {
  for (const old of all().slice(MOST)) drop(old.id);
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
  } catch {
    const oldest = all().filter(({ id }) => id !== chat.id).at(-1); // full
    if (oldest) { drop(oldest.id); save(chat); }
  }
}

export const drop = (id) => localStorage.removeItem(PREFIX + id);

/** Tell whether its last answer is not whole yet. */
export const isLive = (chat) => chat.turns.length > 0 && !chat.turns.at(-1).final;

/** Call `changed(id)` when another tab changed a conversation. */
export function watch(changed) {
  addEventListener("storage", ({ key }) => { if (key?.startsWith(PREFIX)) changed(key.slice(PREFIX.length)); });
}

/** What the server is shown: an API key or a JWT. It goes with the tab. */
export const key = () => kept("key") ?? undefined;

/** Small choices: `remember` for this browser, `keep` for this tab. */
export const remembered = (name) => localStorage.getItem(`tokenwire.${name}`);
export const remember = (name, value) => localStorage.setItem(`tokenwire.${name}`, value);
export const kept = (name) => sessionStorage.getItem(`tokenwire.${name}`);
export const keep = (name, value) => sessionStorage.setItem(`tokenwire.${name}`, value);
