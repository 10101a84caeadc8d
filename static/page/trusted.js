// Trusted Types: beside what DOMPurify has cleaned, no text becomes anything but text, and of scripts a page starts one.

const WORKER = new URL("../client/shared.js", import.meta.url).href;

globalThis.trustedTypes?.createPolicy("default", { createScriptURL: (url) => (url === WORKER ? url : null) });
