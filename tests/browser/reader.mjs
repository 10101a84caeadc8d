// Reads sessions with the client in Node and tells what it was given, a JSON line each.
//   node reader.mjs BASE '{"reads": [{"session": …, …options of connect}], "speed": 1, "cut": 5, "stop": 5}'
// `leave`: another reader was there before and leaves at once; `late`: iterate once all is over; `take`: listen to these, too.

import { connect, start } from "../../static/client/tokenwire.js";

const base = process.argv[2], plan = JSON.parse(process.argv[3]);
const say = (...what) => console.log(JSON.stringify(what));

if (plan.speed) { // for what takes half a minute
  const { setTimeout: later } = globalThis, now = performance.now.bind(performance);
  globalThis.setTimeout = (call, ms, ...more) => later(call, ms / plan.speed, ...more);
  performance.now = () => now() * plan.speed;
}

const failed = (error) => (typeof error.code === "string" ? error.code : error.name);

async function read(name, { session, ...options }) {
  if (plan.leave) {
    const early = connect(session, { base, ...options });
    await new Promise((resolve) => early.on("open", resolve));
    early.close();
  }
  const aborter = new AbortController();
  const stream = connect(session, { base, signal: aborter.signal, ...options });
  for (const type of ["open", "lost", "fell", "refused", "session", "paused", "resumed", "reset"]) {
    stream.on(type, (item) => say(name, type, item));
  }
  for (const type of plan.take ?? []) stream.on(type, () => {});
  if (plan.late) await new Promise((resolve) => stream.on("end", resolve));
  let count = 0;
  try {
    for await (const event of stream) {
      count += 1;
      say(name, "read", event);
      if (count === plan.cut) stream.cut();
      if (count === plan.switch?.at) stream.switch(plan.switch.to);
      if (count === plan.stop) aborter.abort();
      if (count === plan.pause) say(name, "answer", await stream.pause(), await stream.resume());
    }
    say(name, "over", stream.after, stream.text);
  } catch (error) {
    say(name, "failed", failed(error));
  }
}

if (plan.start) {
  const signal = plan.patience && AbortSignal.timeout(plan.patience);
  await start(plan.start, { base, token: plan.token, signal }).then(
    (session) => say("start", "session", session),
    (error) => say("start", "failed", failed(error)),
  );
}
await Promise.all((plan.reads ?? []).map((options, place) => read(place, options)));
process.exit(); // not when the socket that nobody reads over is closed
