import { run } from "./harness.mjs";
import { follow } from "./sockets.mjs";

run((task) => follow(task, (where) => new WebSocket(where()), true));
