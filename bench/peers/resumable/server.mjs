// Vercel's resumable-stream with redis: POST starts a stream, GET follows or resumes it.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createClient } from "redis";
import { createResumableStreamContext } from "resumable-stream/generic";
import { ask, flags, tokens } from "../upstream.mjs";

const client = () => createClient({ url: flags.redis });
const [publisher, subscriber] = [client(), client()];
await Promise.all([publisher.connect(), subscriber.connect()]);
const streams = createResumableStreamContext({ waitUntil: () => {}, publisher, subscriber });

const events = (prompt) => {
  const source = async function* () {
    for await (const content of tokens(await ask(prompt))) {
      yield `data: ${JSON.stringify({ type: "content", content })}\n\n`;
    }
    yield "data: [DONE]\n\n";
  };
  return ReadableStream.from(source());
};

const body = async (request) => JSON.parse((await request.toArray()).join(""));

createServer(async (request, response) => {
  const id = request.url.split("/").pop();
  try {
    const stream =
      request.method === "POST"
        ? await body(request).then(({ prompt }) =>
            streams.createNewResumableStream(id, () => events(prompt)))
        : await streams.resumeExistingStream(id);
    if (!stream) return response.writeHead(204).end();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.flushHeaders();
    Readable.fromWeb(stream).on("error", () => response.destroy()).pipe(response);
  } catch {
    response.writeHead(500).end();
  }
}).listen(Number(flags.port), "127.0.0.1", 4096);

process.on("unhandledRejection", () => {});
