// A session over a WebSocket, whoever's it is.

/** Follow a session to its end; `open(where)` makes a socket. One that does not come back by itself is made `again`. */
export async function follow(task, open, again) {
  const sid = await task.start();
  let after = "";
  const where = () => `${task.sockets}/v1/sessions/${sid}/ws${after && `?after=${after}`}`;
  return new Promise((resolve, reject) => {
    let end;
    const connect = () => {
      const socket = open(where);
      socket.addEventListener("message", ({ data }) => {
        const event = JSON.parse(data);
        after = event.id ?? after;
        end = task.hear(event) ?? end;
        if (task.enough()) socket.send(JSON.stringify({ type: "abort", ref: 1, session: sid }));
      });
      let over = false;
      socket.addEventListener("close", ({ code }) => {
        if (end) {
          if (!again) socket.close();
          code === 1000 ? resolve(end) : reject(new Error(`closed: ${code}`));
        } else reopen();
      });
      // Node's own tells of a reset as an error alone.
      socket.addEventListener("error", () => reopen());
      function reopen() {
        if (!over && again && !end) connect();
        over = true;
      }
    };
    connect();
  });
}
