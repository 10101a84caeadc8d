// A relay written by hand on node:http: parses the upstream's events and writes its own; no log.
import http from "node:http";
import { flags } from "../upstream.mjs";

const agent = new http.Agent({ keepAlive: true });
const upstream = `${flags.upstream}/chat/completions`;

const relay = (source, response) => {
  let rest = "";
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.flushHeaders();
  source.setEncoding("utf8");
  source.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    let out = "";
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const content = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
      if (content) out += `data: ${JSON.stringify({ type: "content", content })}\n\n`;
    }
    if (out) response.write(out);
  });
  source.on("end", () => response.end("data: [DONE]\n\n"));
  source.on("error", () => response.destroy());
};

http.createServer((request, response) => {
  let asked = "";
  request.setEncoding("utf8");
  request.on("data", (text) => { asked += text; });
  request.on("end", () => {
    const messages = [{ role: "user", content: JSON.parse(asked).prompt }];
    const headers = { "content-type": "application/json" };
    const call = http.request(upstream, { method: "POST", agent, headers }, (source) =>
      relay(source, response));
    call.on("error", () => response.destroy());
    response.on("close", () => call.destroy());
    call.end(JSON.stringify({ model: "bench", stream: true, messages }));
  });
}).listen(Number(flags.port), "127.0.0.1", 4096);
