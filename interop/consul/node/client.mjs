// node-consul against Townhall: register, discover, watch, keys and locks, and a provider that is killed. Prints TAP.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import Consul from "consul";

const { hostname, port } = new URL(process.env.TOWNHALL_CONSUL_URL);
const consul = new Consul({ host: hostname, port: Number(port) });
let count = 0;
const check = (what, good, detail = "") => {
  count += 1;
  console.log(good ? `ok ${count} - ${what}` : `not ok ${count} - ${what}: ${JSON.stringify(detail)}`);
};
const until = async (condition) => {
  for (const end = Date.now() + 40_000; Date.now() < end; ) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return false;
};
const passing = async (service) => (await consul.health.service({ service, passing: true })).map((row) => row.Service.ID);

const provider = () => {
  const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1", async () => {
    const own = server.address().port;
    await consul.agent.service.register({
      name: "node-victim", id: "node-victim-1", address: "127.0.0.1", port: own,
      check: { tcp: `127.0.0.1:${own}`, interval: "1s", timeout: "1s", deregistercriticalserviceafter: "5s" },
    });
    console.log("registered");
  });
};

// watched collects the changes of one of node-consul's watches.
const watched = (method, options) => {
  const seen = [];
  const watch = consul.watch({ method, options: { wait: "20s", ...options }, backoffFactor: 100 });
  watch.on("change", (data) => seen.push(data));
  watch.on("error", (error) => seen.push({ error: error.message }));
  return { seen, end: () => watch.end(), until: (good) => until(() => seen.some(good)) };
};

const main = async () => {
  const self = await consul.agent.self();
  check("agent self", self.Config.Datacenter === "dc1" && self.Member.Name.length > 0, self.Config);

  const watch = watched(consul.health.service, { service: "node-web", passing: true });
  await watch.until((rows) => Array.isArray(rows) && rows.length === 0);
  await consul.agent.service.register({
    name: "node-web", id: "node-web-1", address: "127.0.0.1", port: 8080, tags: ["v1"], meta: { zone: "a" },
    check: { ttl: "10m" },
  });
  check("a new TTL check is critical", (await passing("node-web")).length === 0);
  await consul.agent.check.pass("service:node-web-1");
  check("and passes with its heartbeat", (await passing("node-web"))[0] === "node-web-1");
  check("a watch is told", await watch.until((rows) => rows.length === 1 && rows[0].Service.Meta.zone === "a"), watch.seen);
  const listed = await consul.agent.services();
  check("the agent lists it", listed["node-web-1"]?.Port === 8080 && listed["node-web-1"].Tags[0] === "v1", listed);
  const nodes = await consul.catalog.service.nodes({ service: "node-web", tag: "v1" });
  check("the catalogue lists it", nodes.length === 1 && nodes[0].ServicePort === 8080, nodes);
  const states = await consul.health.state("passing");
  check("its check is listed", states.some((row) => row.CheckID === "service:node-web-1"), states);
  await consul.agent.service.maintenance({ id: "node-web-1", enable: true, reason: "lunch" });
  check("maintenance takes it out", (await passing("node-web")).length === 0);
  await consul.agent.service.maintenance({ id: "node-web-1", enable: false });
  await consul.agent.service.deregister("node-web-1");
  const names = await consul.catalog.service.list();
  check("deregistered", names["node-web"] === undefined, names);
  watch.end();

  const key = watched(consul.kv.get, { key: "node/a" });
  await key.until((value) => value === undefined);
  check("set", (await consul.kv.set("node/a", "1")) === true);
  check("a watch of a key is told", await key.until((value) => value?.Value === "1"), key.seen);
  key.end();
  const entry = await consul.kv.get("node/a");
  check("cas refuses", !(await consul.kv.set({ key: "node/a", value: "2", cas: "1" }))); // papi makes undefined of false
  check("cas", (await consul.kv.set({ key: "node/a", value: "2", cas: String(entry.ModifyIndex) })) === true);
  const done = await consul.transaction.create([
    { KV: { Verb: "set", Key: "node/b", Value: Buffer.from("3").toString("base64") } },
    { KV: { Verb: "get", Key: "node/a" } },
  ]);
  check("a transaction", done.Results.length === 2, done);
  check("keys", (await consul.kv.keys("node/")).join() === "node/a,node/b");

  const [one, two] = [await consul.session.create({ lockdelay: "1ms" }), await consul.session.create({ ttl: "10s" })];
  check("acquire", (await consul.kv.set({ key: "node/lock", value: "one", acquire: one.ID })) === true);
  check("the second is refused", !(await consul.kv.set({ key: "node/lock", value: "two", acquire: two.ID })));
  await consul.session.destroy(one.ID);
  const got = async () => consul.kv.set({ key: "node/lock", value: "two", acquire: two.ID });
  check("until the first session is gone", await until(got));
  check("renew", (await consul.session.renew(two.ID))[0].ID === two.ID);
  await consul.session.destroy(two.ID);
  await consul.kv.del({ key: "node/", recurse: true });
  const event = await consul.event.fire("node-event", "hello");
  const events = await consul.event.list("node-event");
  check("an event", events.some((each) => each.ID === event.ID && each.Payload === "hello"), events);
  const query = await consul.query.create({ name: "node-q", service: { service: "consul" } });
  const answer = await consul.query.execute("node-q");
  check("a prepared query", answer.Nodes.length === 1, answer);
  await consul.query.destroy(query.ID);
  const refused = await consul.kv.get({ key: "" }).catch((error) => error);
  check("an error is one", refused instanceof Error, refused);

  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), "provider"], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  check("a provider of another process is found", await until(async () => (await passing("node-victim")).length === 1));
  child.kill("SIGKILL");
  check("killed, it is not passed on any more", await until(async () => (await passing("node-victim")).length === 0));
  const gone = async () => (await consul.catalog.service.nodes("node-victim")).length === 0;
  check("and then gone by itself", await until(gone));
};

if (process.argv[2] === "provider") provider();
else {
  main().then(() => process.exit(0), (error) => {
    console.log(`not ok ${count + 1} - ${error.stack}`);
    process.exit(1);
  });
}
