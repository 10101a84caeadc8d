import { EventSource } from "eventsource";
import { run } from "./harness.mjs";
import { follow } from "./source.mjs";

await run((task) => follow(task, EventSource));
