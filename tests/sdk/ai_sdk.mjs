// What the AI SDK's own transports and chat make of the server: `node ai_sdk.mjs FOLDER SCENARIO URL`.
import { pathToFileURL } from "node:url";

const [folder, scenario, base] = process.argv.slice(2);
const { AbstractChat, DefaultChatTransport, WebSocketChatTransport } = await import(
  pathToFileURL(`${folder}/node_modules/ai/dist/index.js`)
);

class State {
  status = "ready";
  error = undefined;
  constructor(messages) { this.messages = messages; }
  pushMessage = (message) => { this.messages = [...this.messages, message]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (at, message) => { this.messages = this.messages.with(at, structuredClone(message)); };
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor({ messages = [], ...rest }) {
    super({ ...rest, state: new State(messages) });
  }
}

const transports = {
  http: (body) => new DefaultChatTransport({
    api: `${base}/api/chat`, body,
    prepareReconnectToStreamRequest: ({ api, id }) => ({ api: `${api}/${id}/stream?ended=true` }),
  }),
  ws: (body) => new WebSocketChatTransport({
    url: `${base}/api/chat/ws`, body,
    prepareReconnectToStreamRequest: (request) => ({ body: { ...request.body, ended: true } }),
  }),
};
const user = { id: "u1", role: "user", parts: [{ type: "text", text: "p" }] };
const textOf = (message) => message.parts.filter((p) => p.type === "text").map((p) => p.text).join("");

/** What a page shows at the end. */
function shown(chat, more = {}) {
  const messages = chat.messages.map((m) => ({ role: m.role, text: textOf(m), types: m.parts.map((p) => p.type) }));
  const ids = chat.messages.map((m) => m.id);
  return { status: chat.status, error: chat.error?.message ?? null, messages, ids: new Set(ids).size, ...more };
}

async function talk(transport, { id = "c", prompt = "p", ...rest } = {}) {
  const ended = {};
  const onFinish = ({ isAbort, isDisconnect, isError, finishReason }) =>
    Object.assign(ended, { isAbort, isDisconnect, isError, finishReason: finishReason ?? null });
  const chat = new Chat({ id, transport, onFinish, ...rest });
  await chat.sendMessage({ text: prompt });
  return shown(chat, { ended });
}

/** Begin an answer and read it until some text is there; return what was read, and let go. */
async function begin(transport, id, characters) {
  const stream = await transport.sendMessages({
    chatId: id, messages: [user], trigger: "submit-message", abortSignal: undefined,
  });
  const reader = stream.getReader();
  let text = "";
  const chunks = [];
  while (text.length < characters) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    text += value.type === "text-delta" ? value.delta : "";
  }
  return { reader, chunks, text };
}

async function until(done) {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const slow = { model: "paced", tokens: 200, rate: 200 };
const partial = (begun) => ({
  id: begun.chunks[0].messageId, role: "assistant",
  parts: [{ type: "step-start" }, { type: "text", text: begun.text, state: "streaming" }],
});

const scenarios = {
  async send(kind) {
    const transport = transports[kind]({ model: "paced", tokens: 50 });
    return [await talk(transport), await talk(transport, { id: "other", prompt: "q" })];
  },
  async many(kind) {
    const transport = transports[kind]({ model: "paced", tokens: 100, rate: 400 });
    return Promise.all(["a", "b", "c"].map((id) => talk(transport, { id, prompt: id })));
  },
  async resume(kind) {
    // The page is reloaded in the middle of an answer, of which it kept a part.
    const before = transports[kind](slow);
    const begun = await begin(before, "c", 100);
    if (kind === "ws") before.close();
    const chat = new Chat({ id: "c", transport: transports[kind](), messages: [user, partial(begun)] });
    await chat.resumeStream();
    return shown(chat);
  },
  async over(kind) {
    const transport = transports[kind]({ model: "paced", tokens: 50 });
    const chat = new Chat({ id: "c", transport });
    await chat.sendMessage({ text: "p" });
    return Promise.all([1, 2].map(async (kept) => {
      const messages = structuredClone(chat.messages).slice(0, kept);
      const back = new Chat({ id: "c", transport: transports[kind](), messages });
      await back.resumeStream();
      return shown(back);
    }));
  },
  async idle(kind) {
    const stream = await transports[kind]().reconnectToStream({ chatId: "nobody" });
    return { stream };
  },
  async stop(kind) {
    // Over HTTP stop() is silence, and the SDK's docs add a call; over a socket it is the transport's.
    const ended = {};
    const chat = new Chat({
      id: "c", transport: transports[kind](slow), onFinish: (how) => { ended.isAbort = how.isAbort; },
    });
    const asked = chat.sendMessage({ text: "p" });
    await until(() => chat.messages.length === 2 && textOf(chat.messages[1]).length > 100);
    if (kind === "http") await fetch(`${base}/api/chat/c/stop`, { method: "POST", body: "{}" });
    await chat.stop();
    await asked;
    const session = async () => (await fetch(`${base}/v1/conversations/c`)).json();
    let found = await session();
    while (found.status === "running") found = await session();
    return shown(chat, { ended, session: found.status });
  },
  async fail(kind) {
    return talk(transports[kind]({ model: "fails" }));
  },
  async refuse(kind) {
    return talk(transports[kind]({ model: "nobody-has-this" }));
  },
  async tools(kind) {
    // The client runs the tool, and the answer goes on in the same message.
    const calls = [];
    const chat = new Chat({
      id: "c", transport: transports[kind]({ model: "tools" }),
      onToolCall: ({ toolCall }) => {
        calls.push([toolCall.toolName, toolCall.input]);
        void chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { hits: 1 } });
      },
      sendAutomaticallyWhen: ({ messages }) => !messages.at(-1).parts.some((p) => p.type === "text"),
    });
    await chat.sendMessage({ text: "p" });
    await until(() => chat.status === "ready" && chat.messages.at(-1).parts.some((p) => p.type === "text"));
    return shown(chat, { calls });
  },
};

const [name, kind] = scenario.split(" ");
console.log(JSON.stringify(await scenarios[name](kind)));
process.exit(0);
