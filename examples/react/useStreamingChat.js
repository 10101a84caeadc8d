import { connect, start } from "@tokenwire/client";
import { useCallback, useEffect, useRef, useState } from "react";

const FINAL = ["done", "aborted", "error"];

/**
 * A chat whose answers survive the network.
 *
 * @param base the server's address, if it is not this page's own
 * @param model what to ask; the server's default if it is not given
 * @param transport auto, ws, sse or fetch; may change in mid-answer
 * @param session a session to read on with, after a reload
 * @returns messages `{ role, content, reasoning }`, status (ready, running, paused, reconnecting, done, aborted,
 *   error), error, session, and the calls send(text), pause(), resume(), stop()
 */
export function useStreamingChat({ base, model, transport = "auto", session: left = null } = {}) {
  const [messages, setMessages] = useState([]);
  const [status, setStatus] = useState("ready");
  const [error, setError] = useState(null);
  const [session, setSession] = useState(left);
  const stream = useRef(null), chosen = useRef(transport);

  const read = useCallback((sid) => {
    stream.current?.close();
    const mine = stream.current = connect(sid, { base, transport: chosen.current });
    let answer = { role: "assistant", content: "", reasoning: "" }, painted = true;
    setSession(sid);
    setMessages((before) => [...before, answer]);

    // One render a frame, however fast the tokens come.
    const paint = () => { painted = true; const now = answer; setMessages((all) => [...all.slice(0, -1), now]); };
    const change = (fields) => {
      answer = { ...answer, ...fields };
      if (painted) requestAnimationFrame(paint);
      painted = false;
    };
    mine.on("session", ({ status, paused }) => setStatus(paused ? "paused" : status));
    mine.on("paused", () => setStatus("paused"));
    mine.on("resumed", () => setStatus("running"));
    mine.on("lost", () => setStatus("reconnecting"));
    mine.on("reset", () => change({ content: "", reasoning: "" }));
    mine.on("content", ({ content }) => change({ content: answer.content + content }));
    mine.on("reasoning", ({ content }) => change({ reasoning: answer.reasoning + content }));
    mine.on("end", ({ final, error }) => {
      setStatus(error ? "error" : final?.type ?? "done");
      setError(error ?? (final?.type === "error" ? final : null));
    });
  }, [base]); // the transport is switched here, not read anew

  useEffect(() => {
    chosen.current = transport;
    stream.current?.switch(transport);
  }, [transport]);
  useEffect(() => {
    setMessages([]); // in strict mode this runs twice
    if (left) read(left);
    return () => stream.current?.close();
  }, []);

  const send = useCallback(async (text) => {
    const history = [...messages.map(({ role, content }) => ({ role, content })), { role: "user", content: text }];
    setMessages((before) => [...before, { role: "user", content: text }]);
    setStatus("running");
    setError(null);
    try {
      read((await start({ messages: history, ...(model && { model }) }, { base })).id);
    } catch (failure) {
      setStatus("error");
      setError(failure);
    }
  }, [messages, model, base, read]);

  const act = (action) => async () => {
    setError(null);
    try {
      await stream.current?.[action]();
    } catch (failure) {
      setError(failure);
    }
  };

  return {
    messages, status, error, session, send, pause: act("pause"), resume: act("resume"), stop: act("abort"),
    isOver: status === "ready" || FINAL.includes(status),
  };
}
