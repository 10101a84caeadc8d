// The Vercel AI SDK in Node 22 or newer, with no change: `npm install ai`, `make run`, then
// `node examples/ai_sdk.mjs http://127.0.0.1:8080 "Tell me about streams"`.
import { DefaultChatTransport, WebSocketChatTransport, readUIMessageStream } from "ai";

const [base = "http://127.0.0.1:8080", text = "Tell me about streams"] = process.argv.slice(2);
const chatId = crypto.randomUUID();
const messages = [{ id: crypto.randomUUID(), role: "user", parts: [{ type: "text", text }] }];

/** Read an answer to its end; return its text. */
async function textOf(stream) {
  let message;
  for await (message of readUIMessageStream({ stream }));
  return message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
}

// Ask over HTTP, and walk away after the first chunk: the answer goes on without us.
const http = new DefaultChatTransport({ api: `${base}/api/chat` });
const asked = await http.sendMessages({ chatId, messages, trigger: "submit-message" });
await asked.getReader().read();

// Come back, over a WebSocket this time, to the same chat: the whole answer, from its start.
const socket = new WebSocketChatTransport({ url: `${base}/api/chat/ws` });
const resumed = await socket.reconnectToStream({ chatId });
console.log(resumed === null ? "The answer is over already." : await textOf(resumed));
socket.close();
process.exit(0);
