// Places for one-way wires, each of which keeps a connection: over HTTP/1.1 a browser has six to a host, for all its
// tabs, and the pages themselves, their pauses and aborts need one, too.
//
// A place is a lock that the tabs of an origin share. A tab that nobody looks at gives its place up to one that is looked
// at, and comes back when there is one again; its cursor sees to it that it misses nothing.

const ASK = 2_000; // a tab may be hidden by then
const NAMES = [1, 2, 3, 4].map((number) => `tokenwire connection ${number}`);
const givers = new Set();
let tabs = null;

// Wait for a place; resolves with `leave()`, which gives it back. `wait(ask)` is called if there is none now: `ask` asks
// again for that of a hidden tab. `giveUp` is called when another tab wants ours.
export async function place(signal, wait, giveUp) {
  if (!scarce()) return () => {};
  const leave = (await free().catch(() => () => {})) ?? (await queued(signal, wait)); // a page may have no right to locks
  givers.add(giveUp);
  return () => { givers.delete(giveUp); leave(); };
}

// Other than in a page, and with a newer HTTP, connections are no matter. Locks there are only on secure origins.
function scarce() {
  if (typeof document === "undefined" || !navigator.locks || typeof BroadcastChannel === "undefined") return false;
  if (/^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol)) return false;
  if (tabs === null) {
    tabs = new BroadcastChannel("tokenwire connections");
    tabs.onmessage = () => { if (document.hidden) for (const giveUp of [...givers]) giveUp(); };
  }
  return true;
}

async function free() {
  for (const name of NAMES) {
    const leave = await hold(name, { ifAvailable: true });
    if (leave) return leave;
  }
  return null;
}

async function queued(signal, wait) {
  const enough = new AbortController(), stop = () => enough.abort(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener("abort", stop, { once: true });
  const held = NAMES.map((name) => hold(name, { signal: enough.signal }));
  const ask = () => { if (!document.hidden) tabs.postMessage("full"); };
  const asking = setInterval(ask, ASK);
  wait(ask);
  ask();
  try {
    const mine = await Promise.race(held);
    for (const other of held) other.then((leave) => { if (leave !== mine) leave(); }, () => {});
    return mine;
  } finally {
    clearInterval(asking);
    signal.removeEventListener("abort", stop);
    enough.abort();
  }
}

// Resolves once the lock is held, with what lets it go; with null if it is not to be had.
function hold(name, options) {
  return new Promise((resolve, reject) => {
    navigator.locks.request(name, options, (lock) => lock && new Promise((leave) => resolve(leave))).then(() => resolve(null), reject);
  });
}
