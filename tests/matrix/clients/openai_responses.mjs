import OpenAI from "openai";
import { run } from "./harness.mjs";

await run(async (task) => {
  const client = new OpenAI({ baseURL: `${task.url}/v1`, apiKey: "x", maxRetries: 0 });
  let id, seen, end;
  async function read(stream) {
    for await (const event of stream) {
      seen = event.sequence_number;
      id ??= event.response?.id;
      if (event.type === "response.output_text.delta") task.say(event.delta);
      if (event.type === "response.completed") end = "done";
      if (event.type === "response.incomplete") end = event.response.status;
      if (event.type === "response.failed") end = event.type;
      if (task.enough()) await client.responses.cancel(id);
    }
  }
  const asked = { input: "hi", stream: true, background: true, ...task.body };
  while (!end) {
    try {
      if (id === undefined) await read(await client.responses.create(asked));
      else await read(await client.responses.retrieve(id, { stream: true, starting_after: seen }));
    } catch (error) {
      // Node's own word for a lost connection is a TypeError.
      if (id === undefined || !(error instanceof TypeError)) throw error;
    }
  }
  return end;
});
