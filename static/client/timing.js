// When to come back, and how to notice that nothing comes.

export const SILENCE = 30_000; // twice the server's keep-alive
// The first sign of life is sent at once: what does not come by then is held back on the way.
export const FIRST = 10_000;
export const PATIENCE = 60_000;
export const OBSTINATE = 3; // gaps at one place
const STEADY = 10_000; // a connection that lived this long owes nothing to those that failed before
const LEAST = 200, MOST = 5_000;
const HURRY = 4_000;

/** How long to wait before the next attempt, in milliseconds: full jitter, for a crowd must not come back as one. */
export class Backoff {
  #tries = 0; #since = Infinity;

  opened() { this.#since = performance.now(); }
  worked() { this.#tries = 0; }

  next(least = 0) {
    if (performance.now() - this.#since > STEADY) this.#tries = 0;
    this.#since = Infinity;
    const most = Math.min(MOST, LEAST * 2 ** this.#tries++);
    return least + Math.random() * most;
  }
}

// Call `silent` when nothing came for `SILENCE`, and `nudge` half way; `hurry` asks for a sign of life now, unless there
// was one within `due` ms, those of a sleep included.
export function watchdog(silent, nudge = () => {}) {
  let heard = performance.now(), seen = Date.now(), limit = SILENCE, nudged = false, timer;
  function look() {
    const quiet = performance.now() - heard;
    if (quiet >= limit) return silent();
    if (quiet >= SILENCE / 2 && !nudged) { nudged = true; nudge(); }
    timer = setTimeout(look, Math.min(limit - quiet, quiet < SILENCE / 2 ? SILENCE / 2 - quiet : Infinity));
  }
  timer = setTimeout(look, SILENCE / 2);
  return {
    // A new timer for each of two thousand tokens a second would cost more than the tokens.
    alive() { heard = performance.now(); seen = Date.now(); limit = SILENCE; nudged = false; },
    hurry(due = 0) {
      if (Date.now() - seen < due) return;
      clearTimeout(timer);
      limit = performance.now() - heard + HURRY;
      nudged = true;
      nudge();
      timer = setTimeout(look, HURRY);
    },
    stop() { clearTimeout(timer); },
  };
}
