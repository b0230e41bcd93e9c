// A program as people write it with etcd3 for Node: registration, watch, lock, election, transactions. Prints TAP.
import { createRequire } from "node:module";
import path from "node:path";

// The package lies in the cache, beside no source of ours.
const require = createRequire(path.join(process.env.TOWNHALL_NODE_MODULES, "x.js"));
const { Etcd3 } = require("etcd3");

let count = 0;
const check = (what, good, detail = "") => {
  count += 1;
  console.log(good ? `ok ${count} - ${what}` : `not ok ${count} - ${what}: ${JSON.stringify(detail)}`);
};
const refusal = async (promise) => {
  try {
    await promise;
    return "";
  } catch (error) {
    return `${error.constructor.name} ${error.message}`;
  }
};
const once = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve));

const client = new Etcd3({ hosts: `http://${process.env.TOWNHALL_ETCD}` });
await client.put("n/a").value("1");
check("put and get", (await client.get("n/a").string()) === "1");
await client.put("n/b").value("2");
const all = await client.getAll().prefix("n/").strings();
check("all below a prefix", JSON.stringify(all) === '{"n/a":"1","n/b":"2"}', all);
check("descending", (await client.getAll().prefix("n/").sort("Key", "Descend").limit(1).keys())[0] === "n/b");
check("count", (await client.getAll().prefix("n/").count()) === 2);

const watcher = await client.watch().prefix("svc/").withPreviousKV().create();
const put = once(watcher, "put");
const lease = client.lease(5);
const id = await lease.grant();
await lease.put("svc/one").value("127.9.0.1:80");
const seen = await put;
check("a watcher hears of a registration", seen.value.toString() === "127.9.0.1:80" && seen.lease === id, seen);
check("keep-alive once", (await lease.keepaliveOnce()).TTL === "5");
const gone = once(watcher, "delete");
await lease.revoke();
const last = await gone;
check("revoking deletes, with the previous value", last.key.toString() === "svc/one");
await watcher.cancel();

const swapped = await client.if("n/a", "Value", "==", "1").then(client.put("n/a").value("3")).else(client.get("n/a")).commit();
check("a transaction that succeeds", swapped.succeeded === true);
const failed = await client.if("n/a", "Value", "==", "1").then(client.put("n/a").value("4")).else(client.get("n/a")).commit();
check("a transaction that fails", failed.succeeded === false && failed.responses[0].response_range.kvs[0].value.toString() === "3");

let inside = 0;
let most = 0;
await Promise.all(
  [1, 2, 3].map(async () => {
    for (;;) {
      try {
        return await client.lock("n-lock").ttl(10).do(async () => {
          inside += 1;
          most = Math.max(most, inside);
          await new Promise((resolve) => setTimeout(resolve, 5));
          inside -= 1;
        });
      } catch (error) {
        if (error.constructor.name !== "EtcdLockFailedError") throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }),
);
check("a lock lets in one at a time", most === 1, most);

const first = client.election("n-election", 5);
const campaign = first.campaign("one");
await once(campaign, "elected");
check("a leader is elected", (await first.leader()) === "one");
const observer = await first.observe();
check("and observed", observer.leader() === "one");
const changed = once(observer, "change");
await campaign.proclaim("two");
check("a proclamation is observed", (await changed) === "two");
await campaign.resign();
await observer.cancel();
check("nobody leads after it resigned", (await first.leader()) === undefined);

const counter = await client.stm().transact(async (tx) => {
  const before = await tx.get("n/counter").number();
  await tx.put("n/counter").value((before ?? 0) + 1);
  return before;
});
check("software transactional memory", counter === null && (await client.get("n/counter").number()) === 1, counter);
check("an empty key is refused", (await refusal(client.put("").value("x"))).includes("key is not provided"));
check("status", (await client.maintenance.status()).version.length > 0);
check("members", (await client.cluster.memberList({})).members.length === 1);
check("deletes all below a prefix", (await client.delete().prefix("n/")).deleted === "3");
client.close();
console.log(`1..${count}`);
