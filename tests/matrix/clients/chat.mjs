// The AI SDK's chat without a page: it goes on with an answer as a page does that comes back.
import { AbstractChat } from "ai";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  constructor(shown) { this.shown = shown; }
  pushMessage = (message) => this.keep([...this.messages, message]);
  popMessage = () => this.keep(this.messages.slice(0, -1));
  replaceMessage = (at, message) => this.keep(this.messages.with(at, structuredClone(message)));
  snapshot = (thing) => structuredClone(thing);
  keep(messages) {
    this.messages = messages;
    this.shown(messages);
  }
}

class Chat extends AbstractChat {
  constructor(shown, options) { super({ ...options, state: new State(shown) }); }
}

export const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

/** Ask, and see it through; `halt` aborts. */
export async function converse(task, transport, halt) {
  let how = {};
  const chat = new Chat(async (messages) => {
    if (messages.at(-1)?.role !== "assistant") return;
    task.show(textOf(messages.at(-1)));
    if (task.enough()) await halt(chat);
  }, { id: task.name, transport, onFinish: (ended) => { how = ended; } });
  await chat.sendMessage({ text: "hi" });
  // Node's own word for a lost connection is a TypeError.
  while (how.isDisconnect || chat.error instanceof TypeError) await chat.resumeStream();
  if (chat.status === "error") throw chat.error;
  return task.asked ? "aborted" : "done";
}
