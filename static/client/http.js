// Calls to the server, and what its errors become.

import { SILENCE } from "./timing.js";

/** Where the server is mounted: this module lies in its folder `client/`. Undefined in Node and in a bundle. */
const BASE = /^https?:.*\/client\/http\.js$/.test(import.meta.url)
  ? new URL("..", import.meta.url).href
  : globalThis.location && new URL("/", globalThis.location.href).href;

/** Return the server that is meant: `base`, its address, which ends in a slash, and the `token` to show there. */
export function serverOf({ base = BASE, token }) {
  if (!base) throw new TypeError("`base` is needed here: the server's address");
  const { href } = new URL(base, globalThis.location?.href);
  return { base: href.endsWith("/") ? href : `${href}/`, token };
}

/** Return `headers` and the one that says who asks. */
export const headersOf = ({ token }, headers) => ({ ...headers, ...(token && { Authorization: `Bearer ${token}` }) });

/** An error with the `code` that the server, or this client, gives it. */
export function problem({ message, ...facts }) {
  return Object.assign(new Error(message), facts);
}

/** Call and resolve with the answer's JSON; a refusal, or no answer for `SILENCE`, throws a `problem`. */
export async function call(server, path, { signal, ...options } = {}) {
  const limit = new AbortController(), stop = () => limit.abort();
  const timer = setTimeout(stop, SILENCE);
  signal?.addEventListener("abort", stop);
  let refusal;
  try {
    signal?.throwIfAborted();
    const headers = headersOf(server, options.headers);
    const response = await fetch(server.base + path, { cache: "no-store", ...options, headers, signal: limit.signal });
    if (response.ok) return await response.json();
    refusal = await errorOf(response);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw problem({ code: "unreachable", message: "The server cannot be reached.", cause: error });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
  throw problem(refusal);
}

/** Return a refusal as `{ code, message, status, wait }`; `wait` is what the server asks for, in milliseconds. */
export async function errorOf(response) {
  const { status } = response;
  const { error } = await response.json().catch(() => ({}));
  const wait = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  return { code: `http_${status}`, message: `The server answered ${status}.`, ...error, status, wait };
}

/** Statuses that may be different next time. */
export const PASSING = new Set([408, 425, 429, 502, 503, 504]);

/** Tell whether a refusal with this status is for good. */
export const isFinal = (status) => status >= 400 && status < 500 && !PASSING.has(status);
