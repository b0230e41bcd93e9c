// The native protocol from Node without any library: register, watch with resumption, session over fetch.
const api = `${process.env.TOWNHALL_URL}/api/v1`;
let count = 0;
const check = (what, good, detail = "") => {
  count += 1;
  console.log(good ? `ok ${count} - ${what}` : `not ok ${count} - ${what}: ${detail}`);
};
const call = async (method, path, body) => {
  const answer = await fetch(api + path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : null };
};

async function* events(path, headers, signal) {
  const answer = await fetch(api + path, { headers, signal });
  let buffer = "";
  const decoder = new TextDecoder();
  for await (const chunk of answer.body) {
    buffer += decoder.decode(chunk, { stream: true });
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const event = {};
      for (const line of buffer.slice(0, end).split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
      }
      buffer = buffer.slice(end + 2);
      if (event.event) yield { id: event.id, event: event.event, data: JSON.parse(event.data) };
    }
  }
}

const next = async (stream, name) => {
  for (;;) {
    const { value, done } = await stream.next();
    if (done) throw new Error("the stream ended");
    if (value.event === name) return value;
  }
};

const body = { service: "node-web", id: "one", address: "127.9.0.2", port: 8080, ttl_ms: 60000 };
const registered = await call("POST", "/instances", body);
check("register", registered.status === 201 && typeof registered.body.lease === "string", JSON.stringify(registered));

const first = new AbortController();
const stream = events("/watch?service=node-web", {}, first.signal);
const snapshot = await next(stream, "snapshot");
check("snapshot", snapshot.data.instances.length === 1, JSON.stringify(snapshot));
await call("PATCH", "/services/node-web/instances/one", { metadata: { zone: "b" } });
const delta = await next(stream, "delta");
check("delta", delta.data.changed[0].metadata.zone === "b", JSON.stringify(delta));
first.abort();

await call("POST", "/instances", { ...body, id: "two", port: 8081 });
const second = new AbortController();
const resumed = await next(events("/watch?service=node-web", { "last-event-id": delta.id }, second.signal), "delta");
check("resumed without a gap", resumed.data.changed.length === 1 && resumed.data.changed[0].id === "two", JSON.stringify(resumed));
second.abort();

const batch = await call("POST", "/instances/batch", { instances: [{ ...body, id: "three" }, { ...body, id: "bad", port: -1 }] });
check("one bad item does not stop the others", batch.body.results[0].lease && batch.body.results[1].error.code === "invalid_field", JSON.stringify(batch));

const stale = await call("DELETE", "/services/node-web/instances/one?incarnation=1");
check("a stale incarnation is fenced", stale.status === 409 && stale.body.code === "fenced", JSON.stringify(stale));
for (const id of ["one", "two", "three"]) await call("DELETE", `/services/node-web/instances/${id}`);
const empty = await call("GET", "/services/node-web/instances");
check("all gone", empty.body.instances.length === 0, JSON.stringify(empty));
process.exit(0);
