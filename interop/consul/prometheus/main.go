// Prometheus' own Consul discovery, as the library that it is, against Townhall. Prints TAP.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

var (
	count int
	url   = os.Getenv("TOWNHALL_CONSUL_URL")
)

func check(what string, good bool, detail ...any) {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, what)
	} else {
		fmt.Printf("not ok %d - %s: %v\n", count, what, detail)
	}
}

func fine(err error) {
	if err != nil {
		fmt.Printf("not ok %d - %v\n", count+1, err)
		os.Exit(1)
	}
}

func put(path string, body any) {
	encoded, err := json.Marshal(body)
	fine(err)
	request, err := http.NewRequest(http.MethodPut, url+path, bytes.NewReader(encoded))
	fine(err)
	answer, err := http.DefaultClient.Do(request)
	fine(err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		fine(fmt.Errorf("%s: %s", path, answer.Status))
	}
}

func register(id string, tags []string, more map[string]any) {
	body := map[string]any{"Name": "prom-web", "ID": id, "Address": "127.0.0.1", "Port": 9100, "Tags": tags}
	for key, value := range more {
		body[key] = value
	}
	put("/v1/agent/service/register", body)
}

// scrape runs a discovery with these settings and keeps the latest group of each source.
func scrape(ctx context.Context, adapt func(*consul.SDConfig)) func(what string, good func(map[string]*targetgroup.Group) bool) {
	config := consul.DefaultSDConfig
	config.Server = strings.TrimPrefix(url, "http://")
	config.RefreshInterval = model.Duration(50 * time.Millisecond)
	adapt(&config)
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	fine(metrics.Register())
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{Logger: logger, Metrics: metrics, SetName: "t"})
	fine(err)
	updates := make(chan []*targetgroup.Group)
	go discoverer.Run(ctx, updates)
	groups := map[string]*targetgroup.Group{}
	return func(what string, good func(map[string]*targetgroup.Group) bool) {
		deadline := time.After(30 * time.Second)
		for !good(groups) {
			select {
			case update := <-updates:
				for _, group := range update {
					groups[group.Source] = group
				}
			case <-deadline:
				check(what, false, groups["prom-web"])
				return
			}
		}
		check(what, true)
	}
}

func targets(groups map[string]*targetgroup.Group) []model.LabelSet {
	if group := groups["prom-web"]; group != nil {
		return group.Targets
	}
	return nil
}

func has(groups map[string]*targetgroup.Group, wanted map[string]string) bool {
	for _, target := range targets(groups) {
		good := true
		for name, value := range wanted {
			good = good && string(target[model.LabelName(name)]) == value
		}
		if good {
			return true
		}
	}
	return false
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	all := scrape(ctx, func(*consul.SDConfig) {})
	tagged := scrape(ctx, func(config *consul.SDConfig) { config.ServiceTags = []string{"scrape", "v1"} })
	named := scrape(ctx, func(config *consul.SDConfig) { config.Services = []string{"prom-web"}; config.AllowStale = false })
	filtered := scrape(ctx, func(config *consul.SDConfig) { config.Filter = `NodeMeta.rack == "r1" and "scrape" in ServiceTags` })

	type groups = map[string]*targetgroup.Group
	all("the registry itself is found", func(found groups) bool { return found["consul"] != nil })
	register("one", []string{"scrape", "v1"}, map[string]any{"Meta": map[string]string{"metrics-path": "/m"}})
	wanted := map[string]string{
		"__address__": "127.0.0.1:9100", "__meta_consul_service_id": "one", "__meta_consul_tags": ",scrape,v1,",
		"__meta_consul_service_metadata_metrics_path": "/m", "__meta_consul_health": "passing",
	}
	all("a service appears with its labels", func(found groups) bool { return has(found, wanted) })
	all("its datacenter is told", func(found groups) bool {
		return found["prom-web"].Labels["__meta_consul_dc"] == "dc1"
	})
	named("watched by name", func(found groups) bool { return len(targets(found)) == 1 })
	tagged("watched by tags", func(found groups) bool { return len(targets(found)) == 1 })
	register("two", []string{"v1"}, map[string]any{"Check": map[string]any{"CheckID": "prom-two", "TTL": "10m"}})
	all("a second instance, critical until it passes", func(found groups) bool {
		return has(found, map[string]string{"__meta_consul_service_id": "two", "__meta_consul_health": "critical"})
	})
	named("the same by name", func(found groups) bool { return len(targets(found)) == 2 })
	tagged("the tag keeps it out", func(found groups) bool { return len(targets(found)) == 1 })
	put("/v1/agent/check/pass/prom-two", nil)
	all("it passes", func(found groups) bool {
		return has(found, map[string]string{"__meta_consul_service_id": "two", "__meta_consul_health": "passing"})
	})
	put("/v1/catalog/register", map[string]any{
		"Node": "prom-ext", "Address": "127.0.0.7", "NodeMeta": map[string]string{"rack": "r1"},
		"TaggedAddresses": map[string]string{"lan": "127.0.0.7"},
		"Service":         map[string]any{"Service": "prom-web", "ID": "three", "Port": 1, "Tags": []string{"scrape"}},
	})
	external := map[string]string{
		"__address__": "127.0.0.7:1", "__meta_consul_node": "prom-ext", "__meta_consul_metadata_rack": "r1",
		"__meta_consul_tagged_address_lan": "127.0.0.7",
	}
	all("an instance on an external node", func(found groups) bool { return has(found, external) })
	filtered("a filter over the catalogue", func(found groups) bool { return has(found, external) && found["consul"] == nil })
	put("/v1/agent/service/deregister/one", nil)
	put("/v1/agent/service/deregister/two", nil)
	all("two of three are gone", func(found groups) bool { return len(targets(found)) == 1 })
	put("/v1/catalog/deregister", map[string]any{"Node": "prom-ext"})
	all("all are gone", func(found groups) bool { return len(targets(found)) == 0 })
	named("by name, too", func(found groups) bool { return len(targets(found)) == 0 })
	register("four", []string{"scrape", "v1"}, nil)
	all("a service that comes back is seen again", func(found groups) bool { return len(targets(found)) == 1 })
	tagged("by tags, too", func(found groups) bool { return len(targets(found)) == 1 })
	put("/v1/agent/service/deregister/four", nil)
}
