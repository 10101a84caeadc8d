import { WebSocketChatTransport } from "ai";
import { converse } from "./chat.mjs";
import { run } from "./harness.mjs";

await run((task) => {
  const transport = new WebSocketChatTransport({
    url: `${task.sockets}/api/chat/ws`,
    body: task.body,
    prepareReconnectToStreamRequest: ({ body }) => ({ body: { ...body, ended: true } }),
  });
  return converse(task, transport, (chat) => chat.stop());
});
