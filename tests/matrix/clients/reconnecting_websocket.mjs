import ReconnectingWebSocket from "reconnecting-websocket";
import { run } from "./harness.mjs";
import { follow } from "./sockets.mjs";

const options = { minReconnectionDelay: 10, maxReconnectionDelay: 200 };
const Socket = ReconnectingWebSocket.default ?? ReconnectingWebSocket;
await run((task) => follow(task, (where) => new Socket(where, [], options), false));
