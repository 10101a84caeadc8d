// What the Node peers share: their flags, and the texts of an OpenAI stream.
import { parseArgs } from "node:util";

const names = ["port", "redis", "upstream", "data"];
export const flags = parseArgs({
  options: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
}).values;

export const ask = (prompt) =>
  fetch(`${flags.upstream}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "bench",
      stream: true,
      messages: [{ role: "user", content: prompt }],
    }),
  });

export async function* tokens(response) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const content = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
      if (content) yield content;
    }
  }
}
