// The shared worker: its sockets serve every tab of this origin. Pages talk to it as tabs.js does.

import { Sockets } from "./socket.js";

const TICK = 10_000;
const FORGET = 60_000; // a tab that answers no tick for this long is frozen or dead; if it wakes up, it is told

const sockets = new Sockets();

function serve(port) {
  const wires = new Map();
  let answered, ticking;
  const say = (key, kind) => (...args) => port.postMessage({ key, kind, args });
  // While it ticks the port is kept, after its tab is gone, too.
  const leave = () => {
    for (const wire of wires.values()) wire.close();
    wires.clear();
    ticking = clearInterval(ticking);
  };

  const commands = {
    attach({ key, server, sid, after }) {
      ticking ??= setInterval(tick, TICK);
      const kinds = ["open", "item", "end", "gone", "lost", "unusable"];
      const on = Object.fromEntries(kinds.map((kind) => [kind, say(key, kind)]));
      wires.set(key, sockets.attach(server, sid, after, on));
    },
    close({ key }) { wires.get(key)?.close(); wires.delete(key); },
    drop({ key }) { wires.get(key)?.drop(); },
    wake({ key }) { wires.get(key)?.wake(); },
    // The wire may be closed by then: an abort ends the session before it is answered.
    async ask({ key, ref, action }) {
      try {
        port.postMessage({ ref, answer: await wires.get(key).ask(action) });
      } catch ({ code = "wire_lost", message }) {
        port.postMessage({ ref, error: { code, message } });
      }
    },
    bye: leave,
    tick({ keys }) { for (const key of keys) if (!wires.has(key)) say(key, "lost")("forgotten", 0, 0); },
  };
  port.onmessage = ({ data }) => {
    answered = performance.now();
    commands[data.op](data);
  };
  // This side keeps the time: a hidden page's own timers may sleep for a minute.
  function tick() {
    if (performance.now() - answered > FORGET) leave();
    port.postMessage({ tick: true });
  }
}

globalThis.onconnect = ({ ports: [port] }) => serve(port);
