import { run } from "./harness.mjs";
import { follow } from "./source.mjs";

run((task) => follow(task, EventSource));
