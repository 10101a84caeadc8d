// The Durable Streams server for Node, file-backed: its logs outlive the process, as ours do.
import { DurableStreamTestServer } from "@durable-streams/server";
import { flags } from "../upstream.mjs";

const server = new DurableStreamTestServer({
  host: "127.0.0.1",
  port: Number(flags.port),
  dataDir: flags.data,
});
await server.start();
