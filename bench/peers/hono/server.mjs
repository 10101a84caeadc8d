// The Hono and ioredis tutorial: a GET of the pause flag for each token; what comes while paused
// waits in a list and goes out before the next token. Mended in two places only: lines that are
// cut at a chunk's border, and a stream that ends while paused.
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import Redis from "ioredis";
import { ask, flags, tokens } from "../upstream.mjs";

const redis = new Redis(flags.redis);
const app = new Hono();

app.post("/api/chat", async (c) => {
  const { prompt, sessionId } = await c.req.json();
  const response = await ask(prompt);
  return stream(c, async (out) => {
    let held = false;
    const flush = async () => {
      const buffered = await redis.lrange(`buffer:${sessionId}`, 0, -1);
      await redis.del(`buffer:${sessionId}`);
      await out.write(buffered.join(""));
      held = false;
    };
    for await (const content of tokens(response)) {
      if (out.aborted) break;
      if (await redis.get(`pause:${sessionId}`)) {
        await redis.rpush(`buffer:${sessionId}`, content);
        held = true;
        continue;
      }
      if (held) await flush();
      await out.write(content);
    }
    if (held) await flush();
  });
});

app.post("/api/pause", async (c) => {
  const { sessionId } = await c.req.json();
  await redis.set(`pause:${sessionId}`, "1", "EX", 3600);
  return c.json({ ok: true });
});

app.post("/api/resume", async (c) => {
  const { sessionId } = await c.req.json();
  await redis.del(`pause:${sessionId}`);
  return c.json({ ok: true });
});

serve({ fetch: app.fetch, port: Number(flags.port), hostname: "127.0.0.1" });
