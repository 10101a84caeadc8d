import WebSocket from "ws";
import { run } from "./harness.mjs";
import { follow } from "./sockets.mjs";

await run((task) => follow(task, (where) => new WebSocket(where()), true));
