import { useEffect, useState } from "react";
import { useStreamingChat } from "./useStreamingChat.js";

export function Chat() {
  const [text, setText] = useState("");
  const [transport, setTransport] = useState("auto");
  const chat = useStreamingChat({ transport, session: location.hash.slice(1) || null });
  useEffect(() => { if (chat.session) location.hash = chat.session; }, [chat.session]); // a reload reads it again

  const submit = (event) => {
    event.preventDefault();
    chat.send(text);
    setText("");
  };

  return (
    <main>
      <ol>
        {chat.messages.map(({ role, content }, place) => <li key={place}><b>{role}</b> {content}</li>)}
      </ol>
      <p role="status">{chat.status} {chat.error?.message}</p>
      <form onSubmit={submit}>
        <input aria-label="Prompt" value={text} onChange={(event) => setText(event.target.value)} required />
        <button disabled={!chat.isOver}>Send</button>
        <button type="button" disabled={chat.isOver} onClick={chat.status === "paused" ? chat.resume : chat.pause}>
          {chat.status === "paused" ? "Resume" : "Pause"}
        </button>
        <button type="button" disabled={chat.isOver} onClick={chat.stop}>Stop</button>
        <select aria-label="Transport" value={transport} onChange={(event) => setTransport(event.target.value)}>
          {["auto", "ws", "sse", "fetch"].map((name) => <option key={name}>{name}</option>)}
        </select>
      </form>
    </main>
  );
}
