// Compiled only: it names all that the client's types export, and what is wrong on purpose must be told so.

import { connect, inspect, models, session, start, TokenStream } from "@tokenwire/client";
import type {
  Aborted, At, Control, Event, Final, Listened, Notices, Problem, Second, Session, Status, Transport,
} from "@tokenwire/client";

const at: At = { base: new URL("http://127.0.0.1:8080/"), token: "tw_x" };
const transports: (Transport | "auto")[] = ["ws", "sse", "fetch", "auto"];

export async function read(prompt: string, signal: AbortSignal): Promise<string> {
  const started: Session = await start({ prompt }, { ...at, signal, key: "k" });
  const again: Session = await session(started.id, at);
  const names: string[] = await models(at);
  const stream: TokenStream = connect(again, { ...at, transport: transports[0], after: null, signal });
  stream
    .on("open", ({ transport, after }) => console.log(transport, after?.length))
    .on("lost", ({ why, wait }) => console.log(why, wait.toFixed()))
    .on("fell", ({ from, to }: Listened["fell"]) => console.log(from, to))
    .on("refused", ({ why, id }) => console.log(why === "gap", id))
    .on("waiting", ({ transport }) => console.log(transport))
    .on("paused", ({ gate }: Notices["paused"]) => console.log(gate.toFixed()))
    .on("tool_call", ({ call_id, arguments: json }) => console.log(call_id, json))
    .on("end", ({ final, error }) => console.log(final?.type, error?.code));
  // @ts-expect-error There is no such event.
  stream.on("token", () => {});
  // @ts-expect-error A stream is made by `connect`.
  new TokenStream();
  let events: Event[] = [], final: Final | undefined;
  try {
    for await (const item of stream) {
      if (item.type === "reset") { events = []; continue; }
      events.push(item);
      if (item.type === "done" || item.type === "aborted" || item.type === "error") final = item;
    }
  } catch (error) {
    const { code, status }: Problem = error as Problem;
    console.log(code, status);
  }
  console.log(names, final, stream.sid, stream.transport, stream.closed, stream.after);
  return stream.text;
}

export async function steer(stream: TokenStream): Promise<Status> {
  const paused: Control = await stream.pause();
  console.log(paused.gate, (await stream.resume()).paused);
  stream.switch("sse");
  stream.cut();
  stream.close();
  const { status, upstream_closed }: Aborted = await stream.abort();
  return upstream_closed ? status : "running";
}

export function watch(heard: (second: Second) => void): TokenStream {
  return inspect(at).on("second", heard).off("second", heard);
}
