// A page with the AI SDK's React hook: reloaded in mid-stream, it shows the whole answer.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { createElement, useEffect, useRef } from "react";
import { createRoot } from "react-dom/client";
import { run } from "./harness.mjs";

const loads = Number(sessionStorage.loads ?? 0) + 1;
sessionStorage.loads = loads;

const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

function Page({ task, ended }) {
  const begun = useRef(false);
  const { messages, sendMessage, status, error, stop } = useChat({
    id: task.body.seed,
    resume: loads > 1,
    transport: new DefaultChatTransport({
      api: `${task.url}/api/chat`,
      body: task.body,
      prepareReconnectToStreamRequest: ({ api, id }) => ({ api: `${api}/${id}/stream?ended=true` }),
    }),
    onFinish: ({ message, isError, isDisconnect }) => {
      // What a user does when the connection is gone.
      if (isDisconnect) return location.reload();
      if (isError) return;
      task.show(textOf(message)); // which React may draw only after this
      ended(task.asked ? "aborted" : "done");
    },
  });
  const answer = messages.at(-1)?.role === "assistant" ? textOf(messages.at(-1)) : "";
  useEffect(() => {
    if (begun.current || loads > 1) return;
    begun.current = true;
    void sendMessage({ text: "hi" });
  }, []);
  useEffect(() => {
    task.show(answer);
    if (!task.enough()) return;
    void fetch(`${task.url}/api/chat/${task.body.seed}/stop`, { method: "POST" }).then(stop);
  }, [answer]);
  useEffect(() => {
    if (status === "error" && !(error instanceof TypeError)) ended(error.constructor.name);
  }, [status]);
  return createElement("p", null, answer);
}

run((task) => new Promise((ended) => {
  if (loads > 1) task.reset();
  createRoot(document.body).render(createElement(Page, { task, ended }));
}));
