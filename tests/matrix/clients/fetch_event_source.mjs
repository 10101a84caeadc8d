import { fetchEventSource } from "@microsoft/fetch-event-source";
import { run } from "./harness.mjs";

run(async (task) => {
  const sid = await task.start();
  const leaving = new AbortController();
  let end;
  await fetchEventSource(`${task.url}/v1/sessions/${sid}/events`, {
    signal: leaving.signal,
    onmessage({ event, data }) {
      if (event || data === "[DONE]") return;
      end = task.hear(JSON.parse(data)) ?? end;
      if (task.enough()) void task.abort(sid);
    },
    // It takes an end of the stream for the end of all, unless told otherwise.
    onclose() { if (!end) throw new Error("sent elsewhere"); },
    onerror: () => 20,
  });
  return end;
});
