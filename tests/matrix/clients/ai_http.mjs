import { DefaultChatTransport } from "ai";
import { converse } from "./chat.mjs";
import { run } from "./harness.mjs";

await run((task) => {
  const transport = new DefaultChatTransport({
    api: `${task.url}/api/chat`,
    body: task.body,
    prepareReconnectToStreamRequest: ({ api, id }) => ({ api: `${api}/${id}/stream?ended=true` }),
  });
  return converse(task, transport, async (chat) => {
    await fetch(`${task.url}/api/chat/${chat.id}/stop`, { method: "POST" });
    await chat.stop();
  });
});
