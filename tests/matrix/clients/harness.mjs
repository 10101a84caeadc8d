// What every client of the matrix says: one JSON object a line, told apart by `task`.
//   text       a piece of the answer          reset  what was read so far is dropped
//   aborting   epoch milliseconds: it is about to abort
//   end        "done", "aborted", or the client's own error type; the last line of a task
const here = globalThis.MATRIX !== undefined;

function print(line) {
  const text = JSON.stringify(line);
  if (here) globalThis.tell(text);
  else process.stdout.write(`${text}\n`);
}

class Task {
  text = "";
  asked = false;

  constructor(name, told) {
    Object.assign(this, told, { name });
    this.sockets = this.url.replace("http", "ws");
  }

  say(text) {
    this.text += text;
    if (text) print({ task: this.name, text });
  }

  /** Show the whole text so far. */
  show(text) {
    if (!text.startsWith(this.text)) this.reset();
    this.say(text.slice(this.text.length));
  }

  reset() {
    this.text = "";
    print({ task: this.name, reset: true });
  }

  /** Say once whether it is time to abort. */
  enough() {
    if (this.asked || !this.stop || this.text.length < this.stop) return false;
    this.asked = true;
    print({ task: this.name, aborting: performance.timeOrigin + performance.now() });
    return true;
  }

  /** Start a session of the server's own kind; return its id. */
  async start() {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ prompt: "hi", ...this.body });
    const answer = await fetch(`${this.url}/v1/sessions`, { method: "POST", headers, body });
    return (await answer.json()).id;
  }

  async abort(sid) {
    await fetch(`${this.url}/v1/sessions/${sid}/abort`, { method: "POST" });
  }

  /** Take an event of the server's own kind; return how the session ended, if that is what it says. */
  hear(event) {
    if (event.type === "content") this.say(event.content);
    return { done: "done", aborted: "aborted", error: "error event" }[event.type];
  }
}

/** Run every task; a task returns how it ended, or raises its error. */
export async function run(speak) {
  const tasks = here ? globalThis.MATRIX : JSON.parse(process.argv[2]);
  // A client may wait on a timer that keeps no program alive.
  const alive = setInterval(() => {}, 1000);
  await Promise.all(Object.entries(tasks).map(async ([name, told]) => {
    const task = new Task(name, told);
    const end = await speak(task).catch((error) => error.constructor.name);
    if (end) print({ task: name, end });
  }));
  clearInterval(alive);
  if (!here) process.exit(0);
}
