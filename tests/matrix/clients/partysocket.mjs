import { WebSocket } from "partysocket";
import { run } from "./harness.mjs";
import { follow } from "./sockets.mjs";

const options = { minReconnectionDelay: 10, maxReconnectionDelay: 200 };
await run((task) => follow(task, (where) => new WebSocket(where, [], options), false));
