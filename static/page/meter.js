// What one reader sees of its wire: counts, times, and a tape of the last seconds.

// The tape: 16 seconds.
const SLOT = 100, SLOTS = 160;
// The rate is that of the last two seconds.
const SPAN = 20;

export class Meter {
  tokens = 0; first = null; longest = 0; reconnects = 0; gaps = 0;
  #sent = null; #began = null; #last = null; #slots = new Map(); #state = "off";

  /** `sent` is when the prompt was, if this page sent it. */
  constructor(sent = null) { this.#sent = sent; }

  /** An event came, over `transport`. */
  count(event, transport) {
    const now = performance.now();
    if (event.type === "content" || event.type === "reasoning") {
      this.tokens += event.n ?? 1;
      if (this.#sent !== null && this.first === null) this.first = now - this.#sent;
      if (this.#last !== null) this.longest = Math.max(this.longest, now - this.#last);
      this.#last = now;
    }
    const slot = this.#slot(now);
    slot.events += 1;
    this.#began ??= Math.floor(now / SLOT);
    slot.transport = transport;
  }

  /** From now on: "on", "held" (paused), "lost" or "off". */
  mark(state) {
    this.#state = state;
    // That wait is nobody's fault.
    if (state === "held" || state === "off") this.#last = null;
    const slot = this.#slot(performance.now());
    slot.state = state;
    slot.cut ||= state === "lost";
  }

  get rate() {
    const now = Math.floor(performance.now() / SLOT), from = Math.max(now - SPAN, this.#began ?? now);
    let sum = 0;
    for (let at = from; at < now; at++) sum += this.#slots.get(at)?.events ?? 0;
    return now > from ? sum / (now - from) * (1000 / SLOT) : 0;
  }

  #slot(now) {
    const at = Math.floor(now / SLOT);
    if (!this.#slots.has(at)) {
      this.#slots.set(at, { events: 0, transport: null, state: null });
      for (const old of this.#slots.keys()) { if (old < at - SLOTS) this.#slots.delete(old); else break; }
    }
    return this.#slots.get(at);
  }

  /** Draw the tape: a bar for what came in each tenth of a second, in its transport's colour. */
  draw(canvas) {
    const scale = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.#began) {
      pen.fillStyle = colour("soft");
      pen.font = style.font;
      pen.fillText("A bar for each tenth of a second, in its transport's colour", 10, height / 2 + 4, width - 20);
    }
    const now = Math.floor(performance.now() / SLOT), step = width / SLOTS;
    let state = this.#before(now - SLOTS);
    for (let place = 0; place < SLOTS; place++) {
      const slot = this.#slots.get(now - SLOTS + 1 + place);
      state = slot?.state ?? state;
      const x = place * step;
      if (state === "held" || state === "lost") {
        const lost = state === "lost";
        pen.globalAlpha = lost ? 0.55 : 0.3;
        pen.fillStyle = colour(lost ? "warn" : "hold");
        pen.fillRect(x, lost ? height - 4 : height / 2 - 2, step + 0.5, 4);
        pen.globalAlpha = 1;
      }
      if (slot?.cut) {
        pen.fillStyle = colour("warn");
        pen.fillRect(x, 0, 2, height);
      }
      if (!slot?.events) continue;
      const tall = Math.min(height - 4, 5 + 6 * Math.log2(1 + slot.events));
      pen.fillStyle = colour(slot.transport === "ws" ? "ws" : "sse");
      pen.fillRect(slot.cut ? x + 3 : x, height - tall, Math.max(1, step - 1), tall);
    }
  }

  #before(at) {
    let state = "off";
    for (const [key, slot] of this.#slots) { if (key > at) break; state = slot.state ?? state; }
    return state;
  }
}
