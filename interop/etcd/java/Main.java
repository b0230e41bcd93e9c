// A program as people write it with jetcd: registration with a watcher, the Lock and Election services, transactions.
// Prints TAP.
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.Election;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

public class Main {
  static int count = 0;

  static void check(String what, boolean good, Object detail) {
    count++;
    System.out.println(good ? "ok " + count + " - " + what : "not ok " + count + " - " + what + ": " + detail);
  }

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  static <T> T get(Future<T> future) throws Exception {
    return future.get(30, TimeUnit.SECONDS);
  }

  static String refusal(Future<?> future) throws Exception {
    try {
      get(future);
      return "";
    } catch (ExecutionException refused) {
      return String.valueOf(refused.getCause());
    }
  }

  static void registration(Client client) throws Exception {
    BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
    CompletableFuture<Void> created = new CompletableFuture<>();
    WatchOption option = WatchOption.builder().isPrefix(true).withPrevKV(true).withCreateNotify(true).build();
    try (Watch.Watcher watcher = client.getWatchClient().watch(bytes("svc/"), option, answer -> {
      created.complete(null);
      events.addAll(answer.getEvents());
    })) {
      get(created);
      long lease = get(client.getLeaseClient().grant(5)).getID();
      PutOption leased = PutOption.builder().withLeaseId(lease).build();
      get(client.getKVClient().put(bytes("svc/one"), bytes("127.9.0.1:80"), leased));
      WatchEvent seen = events.poll(30, TimeUnit.SECONDS);
      check("a watcher hears of a registration", seen != null && seen.getKeyValue().getLease() == lease, seen);
      BlockingQueue<LeaseKeepAliveResponse> renewals = new LinkedBlockingQueue<>();
      client.getLeaseClient().keepAlive(lease, new StreamObserver<>() {
        @Override public void onNext(LeaseKeepAliveResponse renewed) { renewals.add(renewed); }
        @Override public void onError(Throwable problem) {}
        @Override public void onCompleted() {}
      });
      LeaseKeepAliveResponse renewed = renewals.poll(30, TimeUnit.SECONDS);
      check("the lease is renewed", renewed != null && renewed.getTTL() == 5, renewed);
      var left = get(client.getLeaseClient().timeToLive(lease, LeaseOption.builder().withAttachedKeys().build()));
      check("the lease names its key", left.getKeys().size() == 1 && left.getGrantedTTL() == 5, left);
      get(client.getLeaseClient().revoke(lease));
      seen = events.poll(30, TimeUnit.SECONDS);
      boolean gone = seen != null && seen.getEventType() == WatchEvent.EventType.DELETE;
      check("revoking deletes, with the previous value", gone && seen.getPrevKV().getValue().toString().equals("127.9.0.1:80"), seen);
      String refused = refusal(client.getLeaseClient().keepAliveOnce(lease));
      check("a dead lease is not found", refused.contains("not found"), refused);
    }
  }

  static void keys(Client client) throws Exception {
    var kv = client.getKVClient();
    for (String name : new String[] {"r/a", "r/b", "r/c"}) {
      get(kv.put(bytes(name), bytes(name)));
    }
    GetOption sorted = GetOption.builder().isPrefix(true).withSortField(GetOption.SortTarget.VALUE)
        .withSortOrder(GetOption.SortOrder.DESCEND).withLimit(2).build();
    var got = get(kv.get(bytes("r/"), sorted));
    check("sorted, with a limit", got.getCount() == 3 && got.isMore() && got.getKvs().get(0).getKey().toString().equals("r/c"), got);
    var txn = kv.txn().If(new Cmp(bytes("r/a"), Cmp.Op.EQUAL, CmpTarget.value(bytes("r/a"))))
        .Then(Op.put(bytes("r/a"), bytes("new"), PutOption.DEFAULT), Op.get(bytes("r/a"), GetOption.DEFAULT))
        .Else(Op.delete(bytes("r/b"), DeleteOption.DEFAULT)).commit();
    check("a transaction", get(txn).isSucceeded() && get(txn).getGetResponses().get(0).getKvs().get(0).getValue().toString().equals("new"), get(txn));
    var deleted = get(kv.delete(bytes("r/"), DeleteOption.builder().isPrefix(true).withPrevKV(true).build()));
    check("deletes a prefix", deleted.getDeleted() == 3 && deleted.getPrevKvs().size() == 3, deleted);
    String refused = refusal(kv.put(bytes(""), bytes("x")));
    check("an empty key", refused.contains("key is not provided"), refused);
    get(kv.compact(deleted.getHeader().getRevision()));
    refused = refusal(kv.get(bytes("r/a"), GetOption.builder().withRevision(2).build()));
    check("a compacted revision", refused.contains("required revision has been compacted"), refused);
  }

  static void locking(Client client) throws Exception {
    var locks = client.getLockClient();
    long one = get(client.getLeaseClient().grant(10)).getID();
    long two = get(client.getLeaseClient().grant(10)).getID();
    var first = get(locks.lock(bytes("lock"), one));
    var waiting = locks.lock(bytes("lock"), two);
    boolean waited = false;
    try {
      waiting.get(300, TimeUnit.MILLISECONDS);
    } catch (TimeoutException late) {
      waited = true;
    }
    check("a second lock waits", waited, "");
    get(locks.unlock(first.getKey()));
    check("until the first is let go", !get(waiting).getKey().equals(first.getKey()), "");
    get(client.getLeaseClient().revoke(two));
    String refused = refusal(locks.lock(bytes("lock"), 12345));
    check("a lock with an unknown lease", refused.contains("requested lease not found"), refused);
  }

  static void electing(Client client) throws Exception {
    var elections = client.getElectionClient();
    String refused = refusal(elections.leader(bytes("election")));
    check("nobody leads yet", refused.contains("NoLeader") || refused.contains("no leader"), refused);
    long lease = get(client.getLeaseClient().grant(10)).getID();
    var won = get(elections.campaign(bytes("election"), lease, bytes("one")));
    BlockingQueue<String> observed = new LinkedBlockingQueue<>();
    elections.observe(bytes("election"), new Election.Listener() {
      @Override public void onNext(LeaderResponse seen) { observed.add(seen.getKv().getValue().toString()); }
      @Override public void onError(Throwable problem) {}
      @Override public void onCompleted() {}
    });
    check("the leader is observed", "one".equals(observed.poll(30, TimeUnit.SECONDS)), observed);
    get(elections.proclaim(won.getLeader(), bytes("two")));
    check("a proclamation is observed", "two".equals(observed.poll(30, TimeUnit.SECONDS)), observed);
    get(elections.resign(won.getLeader()));
    refused = refusal(elections.proclaim(won.getLeader(), bytes("three")));
    check("whoever resigned may not proclaim", refused.contains("NotLeader") || refused.contains("not leader"), refused);
  }

  public static void main(String[] arguments) throws Exception {
    try (Client client = Client.builder().endpoints("http://" + System.getenv("TOWNHALL_ETCD")).build()) {
      registration(client);
      keys(client);
      locking(client);
      electing(client);
      var members = get(client.getClusterClient().listMember());
      check("members", members.getMembers().size() == 1, members);
      String address = "http://" + System.getenv("TOWNHALL_ETCD");
      check("status", get(client.getMaintenanceClient().statusMember(address)).getDbSize() > 0, "");
      System.out.println("1.." + count);
    }
    System.exit(0);
  }
}
