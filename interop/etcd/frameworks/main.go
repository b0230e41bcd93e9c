// Programs on go-zero, go-kit and kitex beside Consul's API: what go-zero publishes and the others register is in the
// catalogue, and what Consul registered, or another of them, is found by their own subscribers, instancers and resolvers.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/etcdv3"
	"github.com/go-kit/log"
	kitex "github.com/kitex-contrib/registry-etcd"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
)

const deadline = 30 * time.Second

var (
	count, failed int
	endpoints     = []string{strings.TrimPrefix(os.Getenv("TOWNHALL_ETCD_URL"), "http://")}
)

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

// put is one call of Consul's API.
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

// consul is where Consul's API finds a service now.
func consul(service string) []string {
	answer := must(http.Get(os.Getenv("TOWNHALL_CONSUL_URL") + "/v1/health/service/" + service + "?passing=1"))
	defer answer.Body.Close()
	var rows []struct {
		Service struct {
			Address string
			Port    int
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&rows); err != nil {
		return []string{err.Error()}
	}
	found := []string{}
	for _, row := range rows {
		found = append(found, fmt.Sprintf("%s:%d", row.Service.Address, row.Service.Port))
	}
	return found
}

// becomes polls until a list has exactly these members.
func becomes(what string, list func() []string, wanted ...string) {
	found := []string{}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found = slices.Clone(list())
		slices.Sort(found)
		if slices.Equal(found, wanted) {
			check(what, true)
			return
		}
	}
	check(what, false, found, "instead of", wanted)
}

// kit is a client of go-kit's; each has one watch, and a registrar closes that of its own when it deregisters.
func kit() etcdv3.Client {
	return must(etcdv3.NewClient(context.Background(), endpoints, etcdv3.ClientOptions{DialTimeout: deadline}))
}

// follow keeps what a go-kit instancer said last.
func follow(prefix string) func() []string {
	instancer := must(etcdv3.NewInstancer(kit(), prefix, log.NewNopLogger()))
	events := make(chan sd.Event, 64)
	instancer.Register(events)
	last := []string{}
	return func() []string {
		for {
			select {
			case event := <-events:
				last = event.Instances
			default:
				return last
			}
		}
	}
}

// resolved is whom kitex would call: addresses with their weights, and the tag "zone" where there is one. No instance is an error.
func resolved(prefix, service string) func() []string {
	resolver := must(kitex.NewEtcdResolver(endpoints, kitex.WithEtcdServicePrefix(prefix)))
	return func() []string {
		found := []string{}
		result, err := resolver.Resolve(context.Background(), service)
		if err != nil {
			return found
		}
		for _, instance := range result.Instances {
			zone, _ := instance.Tag("zone")
			found = append(found, fmt.Sprintf("%s %d %s", instance.Address(), instance.Weight(), zone))
		}
		return found
	}
}

func tryKitex() {
	stock := resolved("kitex-all", "fw-stock")
	becomes("kitex's resolver finds what Consul registered", stock, "127.0.0.1:7002 1 ")
	info := &registry.Info{
		ServiceName: "fw-order", Addr: must(net.ResolveTCPAddr("tcp", "127.0.0.1:7005")), Weight: 7,
		Tags: map[string]string{"zone": "north"},
	}
	registrar := must(kitex.NewEtcdRegistry(endpoints))
	if err := registrar.Register(info); err != nil {
		check("kitex registers", false, err)
	}
	order := func() []string { return consul("fw-order") }
	becomes("what kitex registers is found through Consul's API", order, "127.0.0.1:7005")
	becomes("and by kitex itself", resolved("kitex/registry-etcd", "fw-order"), "127.0.0.1:7005 7 north")
	everywhere := resolved("kitex-all", "fw-order")
	becomes("and by kitex where all is shown, with weight and tags", everywhere, "127.0.0.1:7005 7 north")
	other := must(discov.NewSubscriber(endpoints, "zero/fw-order"))
	becomes("and by go-zero", other.Values, "127.0.0.1:7005")
	becomes("and by go-kit", follow("kit-all/fw-order/"), "127.0.0.1:7005")
	if err := registrar.Deregister(info); err != nil {
		check("kitex deregisters", false, err)
	}
	becomes("what kitex deregisters is gone", order)
	becomes("for kitex where all is shown too", everywhere)
	becomes("and for go-zero", other.Values)
}

func main() {
	logx.Disable()
	klog.SetOutput(io.Discard)
	put("/v1/agent/service/register", map[string]any{"Name": "fw-stock", "ID": "fw-stock-1", "Address": "127.0.0.1", "Port": 7001})
	zero := must(discov.NewSubscriber(endpoints, "zero/fw-stock"))
	becomes("go-zero's subscriber finds what Consul registered", zero.Values, "127.0.0.1:7001")
	instancer := follow("kit-all/fw-stock/")
	becomes("go-kit's instancer does", instancer, "127.0.0.1:7001")
	put("/v1/agent/service/register", map[string]any{"Name": "fw-stock", "ID": "fw-stock-2", "Address": "127.0.0.1", "Port": 7002})
	becomes("go-zero is told of another one", zero.Values, "127.0.0.1:7001", "127.0.0.1:7002")
	becomes("so is go-kit", instancer, "127.0.0.1:7001", "127.0.0.1:7002")
	put("/v1/agent/service/deregister/fw-stock-1", nil)
	becomes("go-zero is told when one leaves", zero.Values, "127.0.0.1:7002")
	becomes("so is go-kit", instancer, "127.0.0.1:7002")

	publisher := discov.NewPublisher(endpoints, "fw-user.rpc", "127.0.0.1:7003")
	if err := publisher.KeepAlive(); err != nil {
		check("go-zero publishes", false, err)
	}
	user := func() []string { return consul("fw-user.rpc") }
	becomes("what go-zero publishes is found through Consul's API", user, "127.0.0.1:7003")
	own := must(discov.NewSubscriber(endpoints, "fw-user.rpc"))
	becomes("and by go-zero itself", own.Values, "127.0.0.1:7003")
	crossed := follow("kit-all/fw-user.rpc/")
	becomes("and by go-kit", crossed, "127.0.0.1:7003")

	registrar := etcdv3.NewRegistrar(kit(), etcdv3.Service{
		Key: "/fw-kit/fw-cart/127.0.0.1:7004", Value: "http://127.0.0.1:7004",
		TTL: etcdv3.NewTTLOption(time.Second, 10*time.Second),
	}, log.NewNopLogger())
	registrar.Register()
	cart := func() []string { return consul("fw-cart") }
	becomes("what go-kit registers is found through Consul's API", cart, "127.0.0.1:7004")
	becomes("and by go-kit itself", follow("/fw-kit/fw-cart/"), "http://127.0.0.1:7004")
	other := must(discov.NewSubscriber(endpoints, "zero/fw-cart"))
	becomes("and by go-zero", other.Values, "127.0.0.1:7004")

	registrar.Deregister()
	becomes("what go-kit deregisters is gone", cart)
	becomes("for go-zero too", other.Values)
	publisher.Stop()
	becomes("what go-zero stops publishing is gone", user)
	becomes("for go-kit too", crossed)
	tryKitex()
	fmt.Printf("1..%d\n", count)
	if failed > 0 {
		os.Exit(1)
	}
}
