//! A program as people write it with etcd-client: registration with a watcher, the Lock and Election services,
//! transactions, maintenance. Prints TAP.

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, LockOptions,
    ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};
use std::time::Duration;

#[derive(Default)]
struct Tap(u32);

impl Tap {
    fn check(&mut self, what: &str, good: bool, detail: impl std::fmt::Debug) {
        self.0 += 1;
        if good {
            println!("ok {} - {what}", self.0);
        } else {
            println!("not ok {} - {what}: {detail:?}", self.0);
        }
    }
}

fn says<T: std::fmt::Debug>(result: Result<T, Error>, text: &str) -> bool {
    matches!(result, Err(Error::GRpcStatus(status)) if status.message().contains(text))
}

async fn registration(tap: &mut Tap, client: &mut Client) -> Result<(), Error> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut watched = client.watch("svc/", Some(options)).await?;
    let lease = client.lease_grant(5, None).await?.id();
    client.put("svc/one", "127.9.0.1:80", Some(PutOptions::new().with_lease(lease))).await?;
    let seen = watched.message().await?.expect("an answer");
    // The answer that the watch was created comes first in some versions of the client.
    let seen = if seen.events().is_empty() { watched.message().await?.expect("an answer") } else { seen };
    let event = &seen.events()[0];
    let good = event.event_type() == EventType::Put && event.kv().map(|kv| kv.lease()) == Some(lease);
    tap.check("a watcher hears of a registration", good, &seen);
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    let renewed = answers.message().await?.expect("an answer");
    tap.check("the lease is renewed", renewed.ttl() == 5, renewed.ttl());
    client.lease_revoke(lease).await?;
    let seen = watched.message().await?.expect("an answer");
    let event = &seen.events()[0];
    let before = event.prev_kv().map(|kv| kv.value().to_vec());
    let good = event.event_type() == EventType::Delete && before == Some(b"127.9.0.1:80".to_vec());
    tap.check("revoking deletes, with the previous value", good, &seen);
    keeper.keep_alive().await?;
    let dead = answers.message().await?.expect("an answer");
    tap.check("the keep-alive of a dead lease answers TTL 0", dead.ttl() == 0, dead.ttl());
    let left = client.lease_time_to_live(lease, None).await?;
    tap.check("its time to live is -1", left.ttl() == -1, left.ttl());
    tap.check("revoking it again", says(client.lease_revoke(lease).await, "requested lease not found"), ());
    watched.cancel(seen.watch_id()).await?;
    Ok(())
}

async fn keys(tap: &mut Tap, client: &mut Client) -> Result<(), Error> {
    for name in ["r/a", "r/b", "r/c"] {
        client.put(name, name, None).await?;
    }
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Value, SortOrder::Descend).with_limit(2);
    let got = client.get("r/", Some(options)).await?;
    let good = got.count() == 3 && got.more() && got.kvs()[0].key() == b"r/c";
    tap.check("sorted, with a limit", good, &got);
    let compare = Compare::value("r/a", CompareOp::Equal, "r/a");
    let txn = Txn::new().when([compare]).and_then([TxnOp::put("r/a", "new", None), TxnOp::get("r/a", None)]);
    let done = client.txn(txn.or_else([TxnOp::delete("r/b", None)])).await?;
    tap.check("a transaction", done.succeeded() && done.op_responses().len() == 2, &done);
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("r/", Some(options)).await?;
    tap.check("deletes a prefix", deleted.deleted() == 3 && deleted.prev_kvs().len() == 3, &deleted);
    tap.check("an empty key", says(client.put("", "x", None).await, "key is not provided"), ());
    Ok(())
}

async fn locking(tap: &mut Tap, client: &mut Client) -> Result<(), Error> {
    let first = client.lock("lock", None).await?;
    let lease = client.lease_grant(10, None).await?.id();
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("lock", Some(LockOptions::new().with_lease(lease))).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tap.check("a second lock waits", !waiting.is_finished(), ());
    client.unlock(first.key()).await?;
    let second = waiting.await.expect("it ran")?;
    tap.check("until the first is let go", second.key() != first.key(), &second);
    client.unlock(second.key()).await?;
    let unknown = client.lock("lock", Some(LockOptions::new().with_lease(12345))).await;
    tap.check("a lock with an unknown lease", says(unknown, "requested lease not found"), ());
    Ok(())
}

async fn electing(tap: &mut Tap, client: &mut Client) -> Result<(), Error> {
    tap.check("nobody leads yet", says(client.leader("election").await, "election: no leader"), ());
    let lease = client.lease_grant(10, None).await?.id();
    let won = client.campaign("election", "one", lease).await?;
    let leader = won.leader().expect("a leader").clone();
    let mut observed = client.observe("election").await?;
    let seen = observed.message().await?.expect("an answer");
    tap.check("the leader is observed", seen.kv().map(|kv| kv.value().to_vec()) == Some(b"one".to_vec()), &seen);
    client.proclaim("two", Some(ProclaimOptions::new().with_leader(leader.clone()))).await?;
    let seen = observed.message().await?.expect("an answer");
    tap.check("a proclamation is observed", seen.kv().map(|kv| kv.value().to_vec()) == Some(b"two".to_vec()), &seen);
    client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    tap.check("nobody leads after it", says(client.leader("election").await, "election: no leader"), ());
    Ok(())
}

async fn maintenance(tap: &mut Tap, client: &mut Client) -> Result<(), Error> {
    let status = client.status().await?;
    tap.check("status", !status.version().is_empty() && status.leader() != 0, &status);
    let members = client.member_list().await?;
    tap.check("members", members.members().len() == 1, &members);
    let mut snapshot = client.snapshot().await?;
    let mut size = 0;
    while let Some(part) = snapshot.message().await? {
        size += part.blob().len();
    }
    tap.check("snapshot", size > 0, size);
    tap.check("authenticating while it is off", says(client.user_add("", "x", None).await, "user name is empty"), ());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let address = std::env::var("TOWNHALL_ETCD").expect("TOWNHALL_ETCD");
    let mut client = Client::connect([address], None).await?;
    let mut tap = Tap::default();
    registration(&mut tap, &mut client).await?;
    keys(&mut tap, &mut client).await?;
    locking(&mut tap, &mut client).await?;
    electing(&mut tap, &mut client).await?;
    maintenance(&mut tap, &mut client).await?;
    println!("1..{}", tap.0);
    Ok(())
}
