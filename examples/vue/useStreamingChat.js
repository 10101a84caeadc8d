import { connect, start } from "@tokenwire/client";
import { computed, onScopeDispose, ref, toValue, watch } from "vue";

const FINAL = ["done", "aborted", "error"];

/**
 * A chat whose answers survive the network.
 *
 * @param base the server's address, if it is not this page's own
 * @param model what to ask (may be a ref); the server's default if it is not given
 * @param transport auto, ws, sse or fetch (may be a ref, and change in mid-answer)
 * @param session a session to read on with, after a reload
 * @returns refs: messages `{ role, content, reasoning }`, status (ready, running, paused, reconnecting, done, aborted,
 *   error), error, session, isOver; and the calls send(text), pause(), resume(), stop()
 */
export function useStreamingChat({ base, model, transport = "auto", session: left = null } = {}) {
  const messages = ref([]), status = ref("ready"), error = ref(null), session = ref(left);
  let stream = null;

  function read(sid) {
    stream?.close();
    session.value = sid;
    messages.value.push({ role: "assistant", content: "", reasoning: "" });
    const answer = messages.value.at(-1); // reactive; Vue renders once a tick, however fast the tokens come
    stream = connect(sid, { base, transport: toValue(transport) })
      .on("session", (notice) => { status.value = notice.paused ? "paused" : notice.status; })
      .on("paused", () => { status.value = "paused"; })
      .on("resumed", () => { status.value = "running"; })
      .on("lost", () => { status.value = "reconnecting"; })
      .on("reset", () => Object.assign(answer, { content: "", reasoning: "" }))
      .on("content", ({ content }) => { answer.content += content; })
      .on("reasoning", ({ content }) => { answer.reasoning += content; })
      .on("end", ({ final, error: problem }) => {
        status.value = problem ? "error" : final?.type ?? "done";
        error.value = problem ?? (final?.type === "error" ? final : null);
      });
  }

  async function send(text) {
    messages.value.push({ role: "user", content: text });
    status.value = "running";
    error.value = null;
    const history = messages.value.map(({ role, content }) => ({ role, content }));
    const name = toValue(model);
    try {
      read((await start({ messages: history, ...(name && { model: name }) }, { base })).id);
    } catch (failure) {
      status.value = "error";
      error.value = failure;
    }
  }

  const act = (action) => async () => {
    error.value = null;
    try {
      await stream?.[action]();
    } catch (failure) {
      error.value = failure;
    }
  };

  watch(() => toValue(transport), (name) => stream?.switch(name));
  onScopeDispose(() => stream?.close());
  if (left) read(left);

  return {
    messages, status, error, session, send,
    isOver: computed(() => status.value === "ready" || FINAL.includes(status.value)),
    pause: act("pause"), resume: act("resume"), stop: act("abort"),
  };
}
