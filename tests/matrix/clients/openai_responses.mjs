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
  try {
    await read(await client.responses.create({ input: "hi", stream: true, background: true, ...task.body }));
  } catch (error) {
    if (id === undefined) throw error;
  }
  if (!end) await read(await client.responses.retrieve(id, { stream: true, starting_after: seen }));
  return end;
});
