// Conversations, kept in this browser: one entry each, so that tabs do not overwrite each other's.

const PREFIX = "tokenwire.", CHAT = `${PREFIX}chat.`;
const MOST = 40;
const browser = shelf("localStorage"), tab = shelf("sessionStorage");

// Storage may be blocked or full: what it does not take is this page's own, until that is closed.
function shelf(name) {
  const own = new Map();
  const attempt = (act) => { try { return act(globalThis[name]); } catch { return null; } };
  return {
    own,
    keys: () => [...new Set([...own.keys(), ...attempt(Object.keys) ?? []])],
    get: (key) => own.get(key) ?? attempt((area) => area.getItem(key)),
    drop(key) { own.delete(key); attempt((area) => area.removeItem(key)); },
    // Returns whether the browser keeps it.
    set(key, value) {
      own.set(key, value);
      attempt((area) => { area.setItem(key, value); own.delete(key); });
      return !own.has(key);
    },
  };
}

/** All conversations, the newest first. */
export function all() {
  const keys = browser.keys().filter((key) => key.startsWith(CHAT));
  return keys.map((key) => load(key.slice(CHAT.length))).filter(Boolean).sort((a, b) => b.at - a.at);
}

export function load(id) {
  try {
    return JSON.parse(browser.get(CHAT + id));
  } catch {
    return null;
  }
}

/** Begin a conversation; it is kept from its first prompt on. */
export const fresh = () => ({ id: Math.random().toString(36).slice(2, 12), title: "", at: Date.now(), turns: [] });

/** Keep a conversation; returns false if only this page does. The oldest make room for it, unless that does not help. */
export function save(chat) {
  for (const old of all().slice(MOST)) drop(old.id);
  const others = all().filter(({ id }) => id !== chat.id && !browser.own.has(CHAT + id)), dropped = [];
  while (!browser.set(CHAT + chat.id, JSON.stringify(chat))) {
    const oldest = others.pop();
    if (!oldest) {
      for (const old of dropped) browser.set(CHAT + old.id, JSON.stringify(old));
      return false;
    }
    dropped.push(oldest);
    drop(oldest.id);
  }
  return true;
}

/** Save a conversation, unless it was deleted meanwhile. */
export const update = (chat) => !load(chat.id) || save(chat);

export const drop = (id) => browser.drop(CHAT + id);

/** Tell whether its last answer is not whole yet. */
export const isLive = (chat) => chat.turns.length > 0 && !chat.turns.at(-1).final;

/** Call `changed(id)` when another tab changed a conversation. */
export function watch(changed) {
  addEventListener("storage", ({ key }) => {
    if (!key?.startsWith(CHAT)) return;
    // The other tab's is newer.
    browser.own.delete(key);
    changed(key.slice(CHAT.length));
  });
}

/** What the server is shown: an API key or a JWT. It goes with the tab. */
export const key = () => kept("key") ?? undefined;

/** Small choices: `remember` for this browser, `keep` for this tab. */
export const remembered = (name) => browser.get(PREFIX + name);
export const remember = (name, value) => browser.set(PREFIX + name, value);
export const kept = (name) => tab.get(PREFIX + name);
export const keep = (name, value) => tab.set(PREFIX + name, value);
