// A session over an EventSource, whoever's it is: it comes back by itself, with the last id.

export async function follow(task, Source) {
  const sid = await task.start();
  const source = new Source(`${task.url}/v1/sessions/${sid}/events`);
  return new Promise((resolve, reject) => {
    source.onmessage = async ({ data }) => {
      const end = task.hear(JSON.parse(data));
      if (end) {
        source.close();
        resolve(end);
      }
      if (task.enough()) await task.abort(sid);
    };
    source.onerror = () => {
      if (source.readyState === Source.CLOSED) reject(new Error("closed"));
    };
  });
}
