// OpenAI's client in Node 22 or newer, with no change: `npm install openai`, `make run`, then
// `node examples/openai_node.mjs http://127.0.0.1:8080 "Tell me about streams"`.
import OpenAI from "openai";

const [base = "http://127.0.0.1:8080", input = "Tell me about streams"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "unused" });

// A chat; leaving the loop early would close the model server's connection, too.
const messages = [{ role: "user", content: input }];
const chunks = await client.chat.completions.create({ model: "", messages, stream: true });
for await (const chunk of chunks) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
process.stdout.write("\n\n");

// A response in the background: its stream is lost, and gone on with where it was.
let id, seen;
for await (const event of await client.responses.create({ model: "", input, background: true, stream: true })) {
  if (event.type === "response.created") id = event.response.id;
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
  seen = event.sequence_number;
  if (seen === 30) break;
}
process.stdout.write(" … ");
for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: seen })) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}
process.stdout.write(`\n\n${(await client.responses.retrieve(id)).status}\n`);
