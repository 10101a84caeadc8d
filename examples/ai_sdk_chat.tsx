// A chat page with the Vercel AI SDK's useChat (`npm install ai @ai-sdk/react`), served from the server's
// origin, or from one that `--allow-origin` names.
"use client";

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useState } from "react";

export function Chat({ id, server = "" }: { id: string; server?: string }) {
  const [text, setText] = useState("");
  const { messages, sendMessage, status, stop } = useChat({
    id,
    resume: true, // a page that was reloaded shows the answer that is still running
    transport: new DefaultChatTransport({
      api: `${server}/api/chat`,
      body: { model: "demo" },
      prepareReconnectToStreamRequest: ({ api, id }) => ({
        api: `${api}/${encodeURIComponent(id)}/stream?ended=true`, // also one that has ended meanwhile
      }),
    }),
  });

  // The SDK's own stop() only stops reading; this one ends the generation, whichever node runs it.
  async function end() {
    await fetch(`${server}/api/chat/${encodeURIComponent(id)}/stop`, { method: "POST" });
    await stop();
  }

  return (
    <form onSubmit={(event) => { event.preventDefault(); void sendMessage({ text }); setText(""); }}>
      {messages.map((message) => (
        <p key={message.id}>
          <b>{message.role}: </b>
          {message.parts.map((part, at) => (part.type === "text" ? <span key={at}>{part.text}</span> : null))}
        </p>
      ))}
      <input value={text} onChange={(event) => setText(event.target.value)} />
      {status === "ready" ? <button>Send</button> : <button type="button" onClick={end}>Stop</button>}
    </form>
  );
}
