// grpc-go's resolver of go.etcd.io/etcd/client/v3 over instances that were registered through Consul's API: the service
// is resolved as etcd:///all/NAME, called, and when its check fails or it is deregistered the resolver is told.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

const deadline = 30 * time.Second

var count, failed int

func check(what string, ok bool, more ...any) {
	count++
	word := "ok"
	if !ok {
		word = "not ok"
		failed++
	}
	fmt.Printf("%s %d - %s\n", word, count, what)
	if !ok {
		fmt.Println("#", more)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("not ok -", err)
		os.Exit(1)
	}
	return value
}

func put(path string, body any) {
	data := must(json.Marshal(body))
	request := must(http.NewRequest("PUT", os.Getenv("TOWNHALL_CONSUL_URL")+path, bytes.NewReader(data)))
	answer := must(http.DefaultClient.Do(request))
	answer.Body.Close()
	if answer.StatusCode != 200 {
		fmt.Println("not ok -", path, answer.Status)
		os.Exit(1)
	}
}

// serve runs a gRPC server on a free port of the loopback and registers it through Consul's API.
func serve(id string) *net.TCPAddr {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	where := listener.Addr().(*net.TCPAddr)
	put("/v1/agent/service/register", map[string]any{
		"Name": "greeter", "ID": id, "Address": "127.0.0.1", "Port": where.Port,
		"Check": map[string]string{"TTL": "60s", "Status": "passing"},
	})
	return where
}

// reached calls until the answers came from exactly these addresses, many calls in a row.
func reached(ctx context.Context, caller healthpb.HealthClient, wanted ...*net.TCPAddr) bool {
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		seen := map[string]bool{}
		for range 20 {
			var from peer.Peer
			_, err := caller.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&from), grpc.WaitForReady(true))
			if err != nil {
				return false
			}
			seen[from.Addr.String()] = true
		}
		all := len(seen) == len(wanted)
		for _, one := range wanted {
			all = all && seen[one.String()]
		}
		if all {
			return true
		}
	}
	return false
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*deadline)
	defer cancel()
	client := must(clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("TOWNHALL_ETCD_URL")}, DialTimeout: deadline}))
	defer client.Close()
	first, second := serve("greeter-1"), serve("greeter-2")

	manager := must(endpoints.NewManager(client, "all/greeter"))
	listed := must(manager.List(ctx))
	check("what Consul registered is listed", len(listed) == 2 && listed["all/greeter/greeter-1"].Addr == first.String(), listed)
	updates := must(manager.NewWatchChannel(ctx))
	<-updates

	builder := must(resolver.NewBuilder(client))
	connection := must(grpc.NewClient("etcd:///all/greeter", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)))
	defer connection.Close()
	caller := healthpb.NewHealthClient(connection)
	check("the resolver finds both and calls reach them", reached(ctx, caller, first, second))

	put("/v1/agent/check/fail/service:greeter-1", nil)
	gone := <-updates
	check("a failing check is told as a deletion", len(gone) == 1 && gone[0].Op == endpoints.Delete && gone[0].Key == "all/greeter/greeter-1", gone)
	check("calls go to the other alone", reached(ctx, caller, second))
	put("/v1/agent/check/pass/service:greeter-1", nil)
	back := <-updates
	check("a passing one is told as an addition", len(back) == 1 && back[0].Op == endpoints.Add && back[0].Endpoint.Addr == first.String(), back)
	check("calls reach both again", reached(ctx, caller, first, second))

	put("/v1/agent/service/deregister/greeter-2", nil)
	check("a deregistered instance is called no more", reached(ctx, caller, first))
	err := manager.AddEndpoint(ctx, "all/greeter/mine", endpoints.Endpoint{Addr: first.String()})
	check("nobody else writes below the exported prefix", err != nil, err)
	fmt.Println("#", err)

	own := must(endpoints.NewManager(client, "service/stock"))
	lease := must(client.Grant(ctx, 60))
	if err := own.AddEndpoint(ctx, "service/stock/1", endpoints.Endpoint{Addr: first.String(), Metadata: "m"}, clientv3.WithLease(lease.ID)); err != nil {
		check("an endpoint is added below service/", false, err)
	}
	check("an endpoint below service/ is shown below all/ as well", len(must(must(endpoints.NewManager(client, "all/stock")).List(ctx))) == 1)
	must(client.Revoke(ctx, lease.ID))
	check("and goes with its lease", len(must(must(endpoints.NewManager(client, "all/stock")).List(ctx))) == 0)
	put("/v1/agent/service/deregister/greeter-1", nil)
	fmt.Printf("1..%d\n", count)
	if failed > 0 {
		os.Exit(1)
	}
}
