import { UIMessageStreamDecoder } from "assistant-stream";
import { run } from "./harness.mjs";

/** Read an answer with the decoder; return what it says about the end. */
async function read(task, answer, end = "done") {
  task.reset();
  const chunks = answer.body.pipeThrough(new UIMessageStreamDecoder());
  for await (const chunk of chunks) {
    if (chunk.type === "text-delta") task.say(chunk.textDelta);
    if (chunk.type === "error") end = "error chunk";
    if (task.enough()) {
      await fetch(`${task.url}/api/chat/${task.body.seed}/stop`, { method: "POST" });
      end = "aborted";
    }
  }
  return end;
}

await run(async (task) => {
  const id = task.body.seed;
  const messages = [{ id: "u1", role: "user", parts: [{ type: "text", text: "hi" }] }];
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ id, messages, trigger: "submit-message", ...task.body });
  let answer = await fetch(`${task.url}/api/chat`, { method: "POST", headers, body });
  for (;;) {
    try {
      return await read(task, answer);
    } catch (error) {
      answer = await fetch(`${task.url}/api/chat/${id}/stream?ended=true`);
      if (answer.status !== 200) throw error;
    }
  }
});
