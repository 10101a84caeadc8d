import OpenAI from "openai";
import { run } from "./harness.mjs";

const messages = [{ role: "user", content: "hi" }];

await run(async (task) => {
  const client = new OpenAI({ baseURL: `${task.url}/v1`, apiKey: "x", maxRetries: 0 });
  const stream = await client.chat.completions.create({ messages, stream: true, ...task.body });
  for await (const chunk of stream) {
    task.say(chunk.choices[0]?.delta.content ?? "");
    if (task.enough()) {
      stream.controller.abort();
      return "aborted";
    }
  }
  return "done";
});
