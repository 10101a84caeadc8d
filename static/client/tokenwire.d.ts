/** What a model server streams, in the order of the log. */
export type Event =
  | { type: "content"; id: string; content: string; n?: number }
  | { type: "reasoning"; id: string; content: string; n?: number }
  | { type: "tool_call"; id: string; index: number; call_id?: string; name?: string; arguments?: string }
  | { type: "bytes"; id: string; data: string }
  | Final;

/** The last event of a log. */
export type Final =
  | { type: "done"; id: string; finish_reason: string; usage?: Record<string, number> }
  | { type: "aborted"; id: string; reason: "user" | "orphaned" | "limit" | "shutdown" }
  | { type: "error"; id: string; code: string; message: string; retryable: boolean; status?: number; retry_after?: number };

export type Status = "running" | "done" | "aborted" | "error";
export type Transport = "sse" | "ws" | "fetch";

/** What is said beside the log. */
export interface Notices {
  session: { type: "session"; id: string; status: Status; epoch: number; seq: number; paused: boolean; gate: number | null; model: string };
  paused: { type: "paused"; gate: number };
  resumed: { type: "resumed" };
  reset: { type: "reset"; reason: string; epoch: number };
  moving: { type: "moving" };
}

/** A second of all nodes together, as docs/protocol.md tells it; times in milliseconds, null where nothing happened. */
export interface Second {
  type: "second"; id: string; n?: number; at: number; tokens: number; running: number; viewers: number;
  first_token: Record<"p50" | "p95", number | null>; commit: Record<"p50" | "p99", number | null>; lag: Record<"p50" | "p99", number | null>;
  /** How everything stands: only in the newest. */
  nodes?: Record<string, unknown>[]; sessions?: Record<string, unknown>[]; more?: number;
}

/** An error of the server's or the client's own: `unreachable`, `wire_lost`, `broken_stream` (it insists on a gap). */
export interface Problem extends Error { code: string; status?: number }

/** What `on` hears, besides events by their type. */
export interface Listened extends Notices {
  /** Any event of the log. */
  event: Event;
  /** Of `inspect` alone. */
  second: Second;
  /** Connected, reading on after that cursor. */
  open: { transport: Transport; after: string | null };
  /** Other tabs have all the connections that a browser has; connected when one is free. Not over a WebSocket. */
  waiting: { transport: Transport };
  /** Disconnected, back in `wait` milliseconds. */
  lost: { why: string; wait: number };
  /** One transport does not get through here, or says nothing, so another is tried ("auto" only). */
  fell: { from: Transport; to: Transport; why: string };
  /** A gap or a duplicate, not let through; behind a gap it is read again from the cursor, twice at most. */
  refused: { why: "gap" | "duplicate"; id: string; after: string | null };
  /** Nothing more will come. */
  end: { final?: Final; error?: { code: string; message: string } };
}
type Named = { [E in Event as E["type"]]: E };
type Heard = Listened & Named;

export interface Control { id: string; status: Status; paused: boolean; gate: number | null }
export interface Aborted extends Control { upstream_closed: boolean; upstream_close_ms: number | null; node: string | null }

export interface Session {
  id: string; conversation: string | null; model: string; created: number; status: Status; epoch: number; seq: number;
  paused: boolean; gate: number | null; viewers: number; text: string;
  usage: Record<string, number> | null; timings: Record<string, number | null> | null;
}

/**
 * One session, read to its end over whatever connections it takes: every event once and in order.
 *
 * `for await` gives the log's events, and `reset` ("drop what you hold"). It ends behind the final event, throws if the
 * session is gone or the signal is aborted, and leaving it closes the stream. What came before it begins waits for it,
 * unless somebody listens to `event`, `content`, `reasoning`, `tool_call`, `bytes` or `second`, and so has had it.
 */
export class TokenStream implements AsyncIterable<Event | Notices["reset"]> {
  private constructor();
  /** The session's id. */
  readonly sid: string;
  /** The transport in use, or to be tried next. */
  readonly transport: Transport;
  readonly closed: boolean;
  /** The cursor: the id of the last event read. */
  readonly after: string | null;
  /** The content read so far. */
  readonly text: string;
  on<T extends keyof Heard>(type: T, listener: (item: Heard[T]) => void): this;
  off<T extends keyof Heard>(type: T, listener: (item: Heard[T]) => void): this;
  /** For everyone who reads the session, until `resume`. */
  pause(): Promise<Control>;
  resume(): Promise<Control>;
  /** End the session; resolves once the model server's connection is closed, or after 2 s. */
  abort(): Promise<Aborted>;
  /** Go on over another transport, from the same cursor. */
  switch(transport: Transport | "auto"): void;
  /** Lose the connection, as a bad network would; the stream comes back by itself. */
  cut(): void;
  /** Read no more. The session itself goes on. */
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<Event | Notices["reset"], void, void>;
}

export interface At {
  /** The server's address; needed in Node. */
  base?: string | URL;
  /** An API key or a JWT, where the server asks for one. Without a good one, what is asked fails with `unauthorized`. */
  token?: string;
}

/** Read a session; `after` is the id of the last event you have, none for the whole log. "auto" is WebSocket, else SSE. */
export function connect(
  session: string | { id: string },
  options?: At & { transport?: Transport | "auto"; after?: string | null; signal?: AbortSignal },
): TokenStream;
/**
 * Start a session; `body` is that of POST /v1/sessions. What passes (a lost answer; 408, 425, 429, 502, 503, 504, no sooner than
 * `Retry-After`) is asked for again for 60 s, and starts nothing twice.
 */
export function start(body: object, options?: At & { signal?: AbortSignal; key?: string }): Promise<Session>;
/**
 * Read how the server's nodes and sessions do: `on("second", …)`, for those with the right `admin`. It goes over SSE, ends only
 * when it is closed, and has nothing to pause or abort.
 */
export function inspect(options?: At & { signal?: AbortSignal }): TokenStream;
export function session(sid: string, options?: At): Promise<Session>;
/** Resolve with the names of the models that may be asked for. */
export function models(options?: At): Promise<string[]>;
