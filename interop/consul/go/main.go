// Consul's own Go client against Townhall: register, TTL, blocking queries, watch plans, locks, sessions, transactions,
// and a provider that is killed. Prints TAP.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
)

var (
	count   int
	address = strings.TrimPrefix(os.Getenv("TOWNHALL_CONSUL_URL"), "http://")
)

func check(what string, good bool, detail ...any) {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, what)
	} else {
		fmt.Printf("not ok %d - %s: %v\n", count, what, detail)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Printf("not ok %d - %v\n", count+1, err)
		os.Exit(1)
	}
	return value
}

func fine(err error) { must(0, err) }

func until(condition func() bool) bool {
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

func client() *api.Client {
	return must(api.NewClient(&api.Config{Address: address}))
}

func passing(consul *api.Client, name string) []string {
	entries, _, err := consul.Health().Service(name, "", true, nil)
	fine(err)
	found := []string{}
	for _, entry := range entries {
		found = append(found, entry.Service.ID)
	}
	slices.Sort(found)
	return found
}

// provider registers itself with a TCP check on its own port and then does nothing until it is killed.
func provider() {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	port := listener.Addr().(*net.TCPAddr).Port
	fine(client().Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "go-victim", ID: "go-victim-1", Address: "127.0.0.1", Port: port,
		Check: &api.AgentServiceCheck{
			TCP: fmt.Sprintf("127.0.0.1:%d", port), Interval: "1s", Timeout: "1s", DeregisterCriticalServiceAfter: "5s",
		},
	}))
	fmt.Println("registered")
	for {
		connection, err := listener.Accept()
		fine(err)
		connection.Close()
	}
}

func services(consul *api.Client) {
	registration := &api.AgentServiceRegistration{
		Name: "go-web", ID: "go-web-1", Address: "127.0.0.1", Port: 8080, Tags: []string{"v1", "primary"},
		Meta: map[string]string{"zone": "a"}, Weights: &api.AgentWeights{Passing: 5, Warning: 1},
		TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "127.0.0.1", Port: 8080}},
		Check:           &api.AgentServiceCheck{CheckID: "go-web-ttl", TTL: "10m"},
	}
	fine(consul.Agent().ServiceRegister(registration))
	check("a new TTL check is critical until it is passed", len(passing(consul, "go-web")) == 0)
	fine(consul.Agent().UpdateTTL("go-web-ttl", "all is well", api.HealthPassing))
	check("passing after its first heartbeat", slices.Equal(passing(consul, "go-web"), []string{"go-web-1"}))
	entries, meta, err := consul.Health().Service("go-web", "v1", true, &api.QueryOptions{Filter: `Service.Meta.zone == "a"`})
	fine(err)
	service := entries[0].Service
	check("all fields come back", service.Port == 8080 && service.Meta["zone"] == "a" && service.Weights.Passing == 5 &&
		service.TaggedAddresses["lan"].Port == 8080 && len(service.Tags) == 2 && entries[0].Checks.AggregatedStatus() == "passing", service)
	check("the headers are understood", meta.LastIndex > 0 && meta.KnownLeader, meta)
	multi, _, err := consul.Health().ServiceMultipleTags("go-web", []string{"v1", "v2"}, true, nil)
	check("several tags must all be there", err == nil && len(multi) == 0, err, multi)
	status, info, err := consul.Agent().AgentHealthServiceByID("go-web-1")
	check("the agent's own view of the health", err == nil && status == "passing" && info.Service.ID == "go-web-1", status, err)

	// A blocking query is answered by the change, and not before.
	changed := make(chan uint64)
	go func() {
		_, later, err := consul.Health().Service("go-web", "", false, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 30 * time.Second})
		fine(err)
		changed <- later.LastIndex
	}()
	fine(consul.Agent().UpdateTTL("go-web-ttl", "tired", api.HealthWarning))
	check("a blocking query is answered by the change", <-changed > meta.LastIndex)
	agentService, query, err := consul.Agent().Service("go-web-1", nil)
	check("hash of one service", err == nil && query.LastContentHash == agentService.ContentHash, err)
	fine(consul.Agent().EnableServiceMaintenance("go-web-1", "lunch"))
	check("maintenance takes it out", len(passing(consul, "go-web")) == 0)
	fine(consul.Agent().DisableServiceMaintenance("go-web-1"))
	catalog, _, err := consul.Catalog().Service("go-web", "primary", nil)
	check("in the catalogue", err == nil && len(catalog) == 1 && catalog[0].ServiceMeta["zone"] == "a", err)
	names, _, err := consul.Catalog().Services(&api.QueryOptions{AllowStale: true})
	check("with its tags", err == nil && slices.Contains(names["go-web"], "v1"), names, err)
	fine(consul.Agent().ServiceDeregister("go-web-1"))
	catalog, _, err = consul.Catalog().Service("go-web", "", nil)
	check("deregistered", err == nil && len(catalog) == 0, err)
}

func external(consul *api.Client) {
	_, err := consul.Catalog().Register(&api.CatalogRegistration{
		Node: "go-ext", Address: "127.0.0.9", NodeMeta: map[string]string{"external": "yes"},
		Service: &api.AgentService{ID: "go-db-1", Service: "go-db", Port: 5432},
		Checks:  api.HealthChecks{{Node: "go-ext", CheckID: "db", Name: "db", Status: "passing", ServiceID: "go-db-1"}},
	}, nil)
	fine(err)
	nodes, _, err := consul.Catalog().Nodes(&api.QueryOptions{NodeMeta: map[string]string{"external": "yes"}})
	check("an external node", err == nil && len(nodes) == 1 && nodes[0].Node == "go-ext", nodes, err)
	definition := &api.PreparedQueryDefinition{Name: "go-q", Service: api.ServiceQuery{Service: "go-db", OnlyPassing: true}}
	id, _, err := consul.PreparedQuery().Create(definition, nil)
	fine(err)
	answer, _, err := consul.PreparedQuery().Execute("go-q", nil)
	check("a prepared query", err == nil && len(answer.Nodes) == 1 && answer.Nodes[0].Service.ID == "go-db-1", answer, err)
	_, err = consul.PreparedQuery().Delete(id, nil)
	fine(err)
	_, err = consul.Catalog().Deregister(&api.CatalogDeregistration{Node: "go-ext"}, nil)
	fine(err)
}

// plan runs a watch and gives a channel of what its handler was called with.
func plan(parameters map[string]any) (chan any, *watch.Plan) {
	made := must(watch.Parse(parameters))
	told := make(chan any, 100)
	made.Handler = func(_ uint64, data any) { told <- data }
	go func() { _ = made.Run(address) }()
	return told, made
}

func wait[T any](told chan any, good func(T) bool) bool {
	deadline := time.After(30 * time.Second)
	for {
		select {
		case data := <-told:
			if value, fits := data.(T); fits && good(value) {
				return true
			}
		case <-deadline:
			return false
		}
	}
}

func plans(consul *api.Client) {
	told, service := plan(map[string]any{"type": "service", "service": "go-watched", "passingonly": true})
	names, list := plan(map[string]any{"type": "services"})
	keys, prefix := plan(map[string]any{"type": "keyprefix", "prefix": "go-watched/"})
	one, key := plan(map[string]any{"type": "key", "key": "go-watched/one"})
	states, checks := plan(map[string]any{"type": "checks", "state": "critical"})
	events, event := plan(map[string]any{"type": "event", "name": "go-event"})
	nodes, node := plan(map[string]any{"type": "nodes"})
	check("plan nodes", wait(nodes, func(found []*api.Node) bool { return len(found) > 0 }))
	fine(consul.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "go-watched", Port: 1, Check: &api.AgentServiceCheck{CheckID: "go-w", TTL: "10m", Status: "passing"}}))
	check("plan service", wait(told, func(found []*api.ServiceEntry) bool { return len(found) == 1 }))
	check("plan services", wait(names, func(found map[string][]string) bool { _, there := found["go-watched"]; return there }))
	fine(consul.Agent().UpdateTTL("go-w", "broken", api.HealthCritical))
	check("plan service, once it is critical", wait(told, func(found []*api.ServiceEntry) bool { return len(found) == 0 }))
	check("plan checks", wait(states, func(found []*api.HealthCheck) bool {
		return slices.ContainsFunc(found, func(each *api.HealthCheck) bool { return each.CheckID == "go-w" && each.Output == "broken" })
	}))
	must(consul.KV().Put(&api.KVPair{Key: "go-watched/one", Value: []byte("1")}, nil))
	check("plan key", wait(one, func(found *api.KVPair) bool { return found != nil && string(found.Value) == "1" }))
	check("plan keyprefix", wait(keys, func(found api.KVPairs) bool { return len(found) == 1 }))
	must(consul.KV().DeleteTree("go-watched/", nil))
	check("plan keyprefix, once it is empty", wait(keys, func(found api.KVPairs) bool { return len(found) == 0 }))
	id, _, err := consul.Event().Fire(&api.UserEvent{Name: "go-event", Payload: []byte("hello")}, nil)
	fine(err)
	check("plan event", wait(events, func(found []*api.UserEvent) bool {
		return len(found) > 0 && found[len(found)-1].ID == id && string(found[len(found)-1].Payload) == "hello"
	}))
	for _, each := range []*watch.Plan{service, list, prefix, key, checks, event, node} {
		each.Stop()
	}
	fine(consul.Agent().ServiceDeregister("go-watched"))
}

func keys(consul *api.Client) {
	kv := consul.KV()
	must(kv.Put(&api.KVPair{Key: "go/a b/ü", Value: []byte{0, 1, 255}, Flags: 42}, nil))
	pair, _, err := kv.Get("go/a b/ü", nil)
	check("a key with odd characters and bytes", err == nil && pair.Flags == 42 && slices.Equal(pair.Value, []byte{0, 1, 255}), pair, err)
	done, _, err := kv.CAS(&api.KVPair{Key: pair.Key, Value: []byte("2"), ModifyIndex: pair.ModifyIndex - 1}, nil)
	check("compare and set refuses", err == nil && !done, err)
	done, _, err = kv.CAS(&api.KVPair{Key: pair.Key, Value: []byte("2"), ModifyIndex: pair.ModifyIndex}, nil)
	check("compare and set", err == nil && done, err)
	found, _, err := kv.Keys("go/", "/", nil)
	check("names up to a separator", err == nil && slices.Equal(found, []string{"go/a b/"}), found, err)
	operations := api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: "go/new"}},
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "go/new", Value: []byte("x")}},
		{KV: &api.KVTxnOp{Verb: api.KVGetTree, Key: "go/"}},
	}
	good, answer, _, err := consul.Txn().Txn(operations, nil)
	check("a transaction", err == nil && good && len(answer.Results) == 3, answer, err)
	good, answer, _, err = consul.Txn().Txn(operations, nil)
	check("the same again is rolled back", err == nil && !good && answer.Errors[0].OpIndex == 0, answer, err)
	must(kv.DeleteTree("go/", nil))
	none, _, err := kv.Get("go/new", nil)
	check("a tree is deleted", err == nil && none == nil, err)
}

func locks(consul *api.Client) {
	first := must(consul.LockOpts(&api.LockOptions{Key: "go-lock", Value: []byte("first"), LockDelay: time.Millisecond}))
	second := must(client().LockOpts(&api.LockOptions{Key: "go-lock", Value: []byte("second"), LockDelay: time.Millisecond}))
	lost := must(first.Lock(nil))
	check("lock", lost != nil)
	got := make(chan (<-chan struct{}), 1)
	go func() { got <- must(second.Lock(nil)) }()
	select {
	case <-got:
		check("a second client waits", false)
	case <-time.After(300 * time.Millisecond):
		check("a second client waits", true)
	}
	fine(first.Unlock())
	select {
	case lost = <-got:
		check("and gets it when it is let go", true)
	case <-time.After(30 * time.Second):
		check("and gets it when it is let go", false)
	}
	pair, _, err := consul.KV().Get("go-lock", nil)
	check("the key tells who", err == nil && string(pair.Value) == "second" && pair.Session != "" && pair.LockIndex == 2, pair, err)
	must(consul.Session().Destroy(pair.Session, nil))
	select {
	case <-lost:
		check("a holder is told that its session is gone", true)
	case <-time.After(30 * time.Second):
		check("a holder is told that its session is gone", false)
	}
	_ = second.Unlock()
	fine(first.Destroy())

	semaphores := make([]*api.Semaphore, 3)
	for i := range semaphores {
		semaphores[i] = must(consul.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "go-semaphore", Limit: 2, SemaphoreWaitTime: time.Second, SemaphoreTryOnce: true}))
	}
	for i, semaphore := range semaphores {
		channel := must(semaphore.Acquire(nil))
		check(fmt.Sprintf("semaphore of two, client %d", i+1), (channel != nil) == (i < 2))
	}
	fine(semaphores[0].Release())
	channel := must(semaphores[2].Acquire(nil))
	check("the third gets in when one leaves", channel != nil)
	fine(semaphores[1].Release())
	fine(semaphores[2].Release())
	fine(semaphores[2].Destroy())
}

func sessions(consul *api.Client) {
	id, _, err := consul.Session().Create(&api.SessionEntry{Name: "go", TTL: "10s", Behavior: "delete", LockDelay: time.Millisecond}, nil)
	fine(err)
	held, _, err := consul.KV().Acquire(&api.KVPair{Key: "go-session", Session: id}, nil)
	check("acquire", err == nil && held, err)
	entry, _, err := consul.Session().Renew(id, nil)
	check("renew", err == nil && entry.ID == id && entry.TTL == "10s", entry, err)
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- consul.Session().RenewPeriodic("10s", id, nil, stop) }()
	close(stop)
	check("a session that is kept alive ends with its keeper", <-ended == nil)
	pair, _, err := consul.KV().Get("go-session", nil)
	check("and its key is deleted", err == nil && pair == nil, pair, err)
	entry, _, err = consul.Session().Renew(id, nil)
	check("renewing what is gone gives nothing", err == nil && entry == nil, entry, err)
}

func agent(consul *api.Client) {
	self := must(consul.Agent().Self())
	check("agent self", self["Config"]["Datacenter"] == "dc1" && self["Member"]["Name"] != "", self["Config"])
	leader := must(consul.Status().Leader())
	check("a leader", strings.Contains(leader, ":"), leader)
	members := must(consul.Agent().Members(false))
	check("members", len(members) == 1 && members[0].Name == self["Member"]["Name"], members)
	datacenters := must(consul.Catalog().Datacenters())
	check("datacenters", slices.Equal(datacenters, []string{"dc1"}), datacenters)
	_, _, err := consul.Health().Service("x", "", false, &api.QueryOptions{Filter: "Nope == 1"})
	var status api.StatusError
	check("a bad filter is named", err != nil && strings.Contains(err.Error(), `Selector "Nope" is not valid`), err, status)
}

func killed(consul *api.Client) {
	child := exec.Command(must(os.Executable()), "provider")
	output := must(child.StdoutPipe())
	child.Stderr = os.Stderr
	fine(child.Start())
	line := make([]byte, 64)
	must(output.Read(line))
	check("a provider of another process is found", until(func() bool { return len(passing(consul, "go-victim")) == 1 }))
	fine(child.Process.Kill())
	_ = child.Wait()
	check("killed, it is not passed on any more", until(func() bool { return len(passing(consul, "go-victim")) == 0 }))
	check("and then gone by itself", until(func() bool {
		found, _, err := consul.Catalog().Service("go-victim", "", nil)
		return err == nil && len(found) == 0
	}))
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "provider" {
		provider()
	}
	consul := client()
	agent(consul)
	services(consul)
	external(consul)
	plans(consul)
	keys(consul)
	sessions(consul)
	locks(consul)
	killed(consul)
}
