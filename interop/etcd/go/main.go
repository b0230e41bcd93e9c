// Programs as people write them with go.etcd.io/etcd/client/v3: registration with a watcher, the gRPC resolver, mutex,
// election, software transactional memory, and the errors they branch on. Prints TAP.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const patience = 30 * time.Second

var count int

func check(what string, good bool, detail ...any) {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, what)
	} else {
		fmt.Printf("not ok %d - %s: %v\n", count, what, detail)
	}
}

// must ends the program: what follows would be meaningless.
func must[T any](value T, err error) T {
	if err != nil {
		check("goes on", false, err)
		panic(err)
	}
	return value
}

func connect() *clientv3.Client {
	return must(clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("TOWNHALL_ETCD")}, DialTimeout: patience, Logger: zap.NewNop()}))
}

// next waits for the next answer of a watch that is not empty.
func next(watched clientv3.WatchChan) clientv3.WatchResponse {
	select {
	case answer := <-watched:
		return answer
	case <-time.After(patience):
		return clientv3.WatchResponse{}
	}
}

// registration is the usual self-registration: a lease of 5 s, kept alive, with a watching client beside it.
func registration(ctx context.Context, client *clientv3.Client) {
	watching, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer stop()
	watched := client.Watch(watching, "svc/web/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	lease := must(client.Grant(ctx, 5))
	alive := must(client.KeepAlive(ctx, lease.ID))
	put := must(client.Put(ctx, "svc/web/one", "127.9.0.1:80", clientv3.WithLease(lease.ID)))
	event := next(watched)
	check("a watcher hears of a registration", len(event.Events) == 1 && event.Events[0].IsCreate() && event.Header.Revision == put.Header.Revision, event)
	renewed := <-alive
	check("the lease is renewed", renewed != nil && renewed.TTL == 5, renewed)
	left := must(client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))
	check("the lease names its key", len(left.Keys) == 1 && string(left.Keys[0]) == "svc/web/one" && left.GrantedTTL == 5, left)
	must(client.Revoke(ctx, lease.ID))
	event = next(watched)
	gone := len(event.Events) == 1 && event.Events[0].Type == clientv3.EventTypeDelete
	check("revoking deletes, with the previous value", gone && string(event.Events[0].PrevKv.Value) == "127.9.0.1:80", event)
	open := true
	for open {
		_, open = <-alive
	}
	check("the keep-alive of a revoked lease ends", !open)
	_, err := client.KeepAliveOnce(ctx, lease.ID)
	check("a dead lease is not found", errors.Is(err, rpctypes.ErrLeaseNotFound), err)

	short := must(client.Grant(ctx, 2))
	must(client.Put(ctx, "svc/web/two", "127.9.0.2:80", clientv3.WithLease(short.ID)))
	next(watched)
	event = next(watched)
	check("a lease that nobody renews expires", len(event.Events) == 1 && event.Events[0].Type == clientv3.EventTypeDelete, event)

	taken := must(client.Grant(ctx, 60))
	older := must(client.Grant(ctx, 60))
	must(client.Put(ctx, "svc/web/three", "a", clientv3.WithLease(older.ID)))
	must(client.Put(ctx, "svc/web/three", "b", clientv3.WithLease(taken.ID)))
	must(client.Revoke(ctx, older.ID))
	kept := must(client.Get(ctx, "svc/web/three"))
	check("a key taken over by a new lease survives the old one", kept.Count == 1 && string(kept.Kvs[0].Value) == "b", kept)
}

// backend serves the gRPC health service on a free port and says its own name as the service it knows.
func backend(name string) (string, func()) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server, known := grpc.NewServer(), health.NewServer()
	known.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, known)
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server.Stop
}

// reached asks until the named backend has answered.
func reached(ctx context.Context, client grpc_health_v1.HealthClient, name string) bool {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
		if err == nil && answer.Status == grpc_health_v1.HealthCheckResponse_SERVING {
			return true
		}
	}
	return false
}

// resolving registers endpoints and calls them as etcd:///service/….
func resolving(ctx context.Context, client *clientv3.Client) {
	first, stopFirst := backend("first")
	second, stopSecond := backend("second")
	defer stopSecond()
	manager := must(endpoints.NewManager(client, "service/greeter"))
	lease := must(client.Grant(ctx, 60))
	put := manager.AddEndpoint(ctx, "service/greeter/first", endpoints.Endpoint{Addr: first, Metadata: "m"}, clientv3.WithLease(lease.ID))
	check("AddEndpoint", put == nil, put)
	builder := must(resolver.NewBuilder(client))
	balance := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)
	connection := must(grpc.NewClient("etcd:///service/greeter", grpc.WithResolvers(builder), balance, grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	caller := grpc_health_v1.NewHealthClient(connection)
	check("the resolver finds the endpoint", reached(ctx, caller, "first"))
	updates := manager.Update(ctx, []*endpoints.UpdateWithOpts{
		endpoints.NewAddUpdateOpts("service/greeter/second", endpoints.Endpoint{Addr: second}),
		endpoints.NewDeleteUpdateOpts("service/greeter/none"),
	})
	check("several updates in one transaction", updates == nil, updates)
	check("the resolver is told of a second", reached(ctx, caller, "second"))
	listed := must(manager.List(ctx))
	check("List", len(listed) == 2 && listed["service/greeter/first"].Addr == first && listed["service/greeter/first"].Metadata == "m", listed)
	channel := must(manager.NewWatchChannel(ctx))
	check("a watch channel begins with what is there", len(<-channel) == 2)
	must(client.Revoke(ctx, lease.ID))
	update := <-channel
	check("the end of its lease deletes an endpoint", len(update) == 1 && update[0].Op == endpoints.Delete && update[0].Key == "service/greeter/first", update)
	stopFirst()
	good := true
	for i := 0; i < 20 && good; i++ {
		good = reached(ctx, caller, "second")
	}
	check("calls go on at the other", good)
}

func mutex(ctx context.Context, client *clientv3.Client) {
	var inside, most, total int
	var guard sync.Mutex
	var waiting sync.WaitGroup
	for i := 0; i < 5; i++ {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			session := must(concurrency.NewSession(client, concurrency.WithTTL(10)))
			defer session.Close()
			lock := concurrency.NewMutex(session, "/lock")
			for range 5 {
				if err := lock.Lock(ctx); err != nil {
					check("Lock", false, err)
					return
				}
				guard.Lock()
				inside, total = inside+1, total+1
				most = max(most, inside)
				guard.Unlock()
				time.Sleep(time.Millisecond)
				guard.Lock()
				inside--
				guard.Unlock()
				_ = lock.Unlock(ctx)
			}
		}()
	}
	waiting.Wait()
	check("a mutex lets in one at a time", most == 1 && total == 25, most, total)
	one := must(concurrency.NewSession(client, concurrency.WithTTL(10)))
	two := must(concurrency.NewSession(client, concurrency.WithTTL(10)))
	held, wanted := concurrency.NewMutex(one, "/try"), concurrency.NewMutex(two, "/try")
	check("TryLock", held.TryLock(ctx) == nil)
	refused := wanted.TryLock(ctx)
	check("TryLock of a held lock", errors.Is(refused, concurrency.ErrLocked), refused)
	got := make(chan error, 1)
	go func() { got <- wanted.Lock(ctx) }()
	_ = one.Close() // the session's lease ends, and its key with it
	check("the end of the holder's session lets the next in", <-got == nil)
	_ = two.Close()
}

func election(ctx context.Context, client *clientv3.Client) {
	one := must(concurrency.NewSession(client, concurrency.WithTTL(10)))
	two := must(concurrency.NewSession(client, concurrency.WithTTL(10)))
	defer two.Close()
	first, second := concurrency.NewElection(one, "/election"), concurrency.NewElection(two, "/election")
	_, err := first.Leader(ctx)
	check("nobody leads yet", errors.Is(err, concurrency.ErrElectionNoLeader), err)
	check("Campaign", first.Campaign(ctx, "one") == nil)
	observing, stop := context.WithCancel(ctx)
	defer stop()
	observed := second.Observe(observing)
	seen := <-observed
	check("Observe sees the leader", string(seen.Kvs[0].Value) == "one", seen)
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "two") }()
	check("Proclaim", first.Proclaim(ctx, "one again") == nil)
	seen = <-observed
	check("Observe sees what is proclaimed", string(seen.Kvs[0].Value) == "one again", seen)
	check("Resign", first.Resign(ctx) == nil)
	check("the next wins", <-won == nil)
	seen = <-observed
	check("Observe sees the next", string(seen.Kvs[0].Value) == "two", seen)
	check("whoever resigned may not proclaim", errors.Is(first.Proclaim(ctx, "x"), concurrency.ErrElectionNotLeader))
	leader := must(second.Leader(ctx))
	check("Leader", string(leader.Kvs[0].Value) == "two", leader)
	_ = one.Close()
}

// memory moves amounts between accounts from many goroutines; the sum must stay.
func memory(ctx context.Context, client *clientv3.Client) {
	const accounts, each = 5, 100
	name := func(i int) string { return fmt.Sprintf("account/%d", i) }
	for i := range accounts {
		must(client.Put(ctx, name(i), fmt.Sprint(each)))
	}
	var waiting sync.WaitGroup
	for i := range 8 {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for j := range 5 {
				from, to := name((i+j)%accounts), name((i+2*j+1)%accounts)
				level := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads}[i%3]
				_, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
					var a, b int
					fmt.Sscan(s.Get(from), &a)
					if from == to {
						return nil
					}
					fmt.Sscan(s.Get(to), &b)
					s.Put(from, fmt.Sprint(a-j))
					s.Put(to, fmt.Sprint(b+j))
					return nil
				}, concurrency.WithIsolation(level))
				if err != nil {
					check("STM", false, err)
				}
			}
		}()
	}
	waiting.Wait()
	sum := 0
	for _, kv := range must(client.Get(ctx, "account/", clientv3.WithPrefix())).Kvs {
		var value int
		fmt.Sscan(string(kv.Value), &value)
		sum += value
	}
	check("transfers keep the sum", sum == accounts*each, sum)
}

// errorsOf checks what programs branch on.
func errorsOf(ctx context.Context, client *clientv3.Client) {
	_, err := client.Put(ctx, "", "x")
	check("an empty key", errors.Is(err, rpctypes.ErrEmptyKey), err)
	_, err = client.Put(ctx, "x", "x", clientv3.WithLease(12345))
	check("an unknown lease", errors.Is(err, rpctypes.ErrLeaseNotFound), err)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("d", "1"), clientv3.OpPut("d", "2")).Commit()
	check("a duplicate key", errors.Is(err, rpctypes.ErrDuplicateKey), err)
	_, err = client.Put(ctx, "big", string(bytes.Repeat([]byte("x"), 1600*1024)))
	check("a request too large", errors.Is(err, rpctypes.ErrRequestTooLarge), err)
	now := must(client.Get(ctx, "x")).Header.Revision
	_, err = client.Get(ctx, "x", clientv3.WithRev(now+1000))
	check("a future revision", errors.Is(err, rpctypes.ErrFutureRev), err)
	must(client.Put(ctx, "compact", "1"))
	must(client.Put(ctx, "compact", "2"))
	last := must(client.Put(ctx, "compact", "3")).Header.Revision
	must(client.Compact(ctx, last, clientv3.WithCompactPhysical()))
	_, err = client.Get(ctx, "compact", clientv3.WithRev(last-1))
	check("a compacted revision", errors.Is(err, rpctypes.ErrCompacted), err)
	ended := next(client.Watch(ctx, "compact", clientv3.WithRev(1)))
	check("a watch from a compacted revision", ended.Canceled && ended.CompactRevision == last && errors.Is(ended.Err(), rpctypes.ErrCompacted), ended)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = client.Get(cancelled, "x")
	check("a context that is already cancelled", errors.Is(err, context.Canceled), err)
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	_, err = client.Get(short, "x")
	check("a deadline far enough away", err == nil, err)
	_, err = client.Authenticate(ctx, "a", "b")
	check("authenticating while it is off", errors.Is(err, rpctypes.ErrAuthNotEnabled), err)
	_, err = client.RoleGet(ctx, "none")
	check("an unknown role", errors.Is(err, rpctypes.ErrRoleNotFound), err)
}

// rest covers wrappers that lean on exact revisions and streams.
func rest(ctx context.Context, client *clientv3.Client) {
	prefixed := namespace.NewKV(client.KV, "ns/")
	must(prefixed.Put(ctx, "a", "1"))
	check("namespace", must(client.Get(ctx, "ns/a")).Count == 1 && string(must(prefixed.Get(ctx, "a")).Kvs[0].Key) == "a")
	ordered := ordering.NewKV(client.KV, func(clientv3.Op, clientv3.OpResponse, int64) error { return errors.New("went back") })
	_, err := ordered.Get(ctx, "ns/a", clientv3.WithSerializable())
	check("ordering", err == nil, err)
	leased, closed, err := leasing.NewKV(client, "leasing/")
	if err == nil {
		must(leased.Put(ctx, "lk", "1"))
		must(leased.Get(ctx, "lk"))
		check("leasing", string(must(leased.Get(ctx, "lk")).Kvs[0].Value) == "1")
		closed()
	} else {
		check("leasing", false, err)
	}
	for i := range 30 {
		must(client.Put(ctx, fmt.Sprintf("m/%02d", i), "v"))
	}
	copied := 0
	answers, problems := mirror.NewSyncer(client, "m/", 0).SyncBase(ctx)
	for answer := range answers {
		copied += len(answer.Kvs)
	}
	check("mirror", copied == 30 && <-problems == nil, copied)
	big := string(bytes.Repeat([]byte("v"), 600*1024))
	from := must(client.Put(ctx, "frag/0", big)).Header.Revision
	for i := 1; i < 8; i++ {
		must(client.Put(ctx, fmt.Sprintf("frag/%d", i), big))
	}
	watched, events := client.Watch(ctx, "frag/", clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment()), 0
	for events < 8 {
		answer := next(watched)
		if len(answer.Events) == 0 {
			break
		}
		events += len(answer.Events)
	}
	check("fragments of a large replay", events == 8, events)
	progressing := client.Watch(ctx, "progress")
	time.Sleep(100 * time.Millisecond)
	must(struct{}{}, client.RequestProgress(ctx))
	progress := next(progressing)
	check("progress on request", progress.IsProgressNotify(), progress)
	about := must(client.Status(ctx, os.Getenv("TOWNHALL_ETCD")))
	check("Status", about.Version != "" && about.Leader != 0 && about.DbSize > 0, about)
	members := must(client.MemberList(ctx))
	check("MemberList names the leader", len(members.Members) == 1 && members.Members[0].ID == about.Leader, members)
	stream := must(client.Snapshot(ctx))
	size := must(io.Copy(io.Discard, stream))
	check("Snapshot", size > 0, size)
	hashed := must(client.HashKV(ctx, os.Getenv("TOWNHALL_ETCD"), 0))
	check("HashKV", hashed.Hash != 0, hashed)
	_, err = client.Defragment(ctx, os.Getenv("TOWNHALL_ETCD"))
	check("Defragment", err == nil, err)
	healthy, err := grpc_health_v1.NewHealthClient(client.ActiveConnection()).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	check("health", err == nil && healthy.Status == grpc_health_v1.HealthCheckResponse_SERVING, err)
	// The last one: a real etcd of one member waits for the second from here on.
	_, err = client.MemberAdd(ctx, []string{"http://127.0.0.1:1"})
	check("another member is refused or added, not hung", err == nil || status.Code(err) != codes.DeadlineExceeded, err)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := connect()
	defer client.Close()
	for _, part := range []func(context.Context, *clientv3.Client){registration, resolving, mutex, election, memory, errorsOf, rest} {
		part(ctx, client)
	}
	fmt.Printf("1..%d\n", count)
}
