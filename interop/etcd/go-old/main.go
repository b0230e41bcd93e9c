// A program of the generation before modules (github.com/coreos/etcd/clientv3): registration, watch, mutex, election.
// Prints TAP.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/coreos/etcd/clientv3"
	"github.com/coreos/etcd/clientv3/concurrency"
	etcdnaming "github.com/coreos/etcd/clientv3/naming"
	"github.com/coreos/etcd/etcdserver/api/v3rpc/rpctypes"
	"google.golang.org/grpc/naming"
)

var count int

func check(what string, good bool, detail ...interface{}) {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, what)
	} else {
		fmt.Printf("not ok %d - %s: %v\n", count, what, detail)
	}
}

func must(err error) {
	if err != nil {
		check("goes on", false, err)
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("TOWNHALL_ETCD")}, DialTimeout: 20 * time.Second})
	must(err)
	defer client.Close()
	watched := client.Watch(ctx, "old/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	lease, err := client.Grant(ctx, 5)
	must(err)
	alive, err := client.KeepAlive(ctx, lease.ID)
	must(err)
	check("the lease is renewed", (<-alive).TTL == 5)
	_, err = client.Put(ctx, "old/one", "127.9.0.1:80", clientv3.WithLease(lease.ID))
	must(err)
	seen := <-watched
	check("a watcher hears of a registration", len(seen.Events) == 1 && seen.Events[0].IsCreate(), seen)
	_, err = client.Revoke(ctx, lease.ID)
	must(err)
	seen = <-watched
	check("revoking deletes", len(seen.Events) == 1 && string(seen.Events[0].PrevKv.Value) == "127.9.0.1:80", seen)
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	check("a dead lease is not found", err == rpctypes.ErrLeaseNotFound, err)
	_, err = client.Put(ctx, "", "x")
	check("an empty key", err == rpctypes.ErrEmptyKey, err)

	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	mutex := concurrency.NewMutex(session, "/old-lock")
	check("Lock", mutex.Lock(ctx) == nil)
	check("Unlock", mutex.Unlock(ctx) == nil)
	election := concurrency.NewElection(session, "/old-election")
	check("Campaign", election.Campaign(ctx, "one") == nil)
	leader, err := election.Leader(ctx)
	check("Leader", err == nil && string(leader.Kvs[0].Value) == "one", err)
	check("Resign", election.Resign(ctx) == nil)
	must(session.Close())

	resolver := &etcdnaming.GRPCResolver{Client: client}
	must(resolver.Update(ctx, "old-service", naming.Update{Op: naming.Add, Addr: "127.9.0.2:80"}))
	watcher, err := resolver.Resolve("old-service")
	must(err)
	updates, err := watcher.Next()
	check("the resolver of old finds an endpoint", err == nil && len(updates) == 1 && updates[0].Addr == "127.9.0.2:80", updates, err)
	must(resolver.Update(ctx, "old-service", naming.Update{Op: naming.Delete, Addr: "127.9.0.2:80"}))
	updates, err = watcher.Next()
	check("and is told when it goes", err == nil && len(updates) == 1 && updates[0].Op == naming.Delete, updates, err)
	fmt.Printf("1..%d\n", count)
}
