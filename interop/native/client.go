// The native protocol from Go's standard library: register, long poll, session stream in both directions.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

var api = os.Getenv("TOWNHALL_URL") + "/api/v1"
var count int

func check(what string, good bool, detail any) {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, what)
	} else {
		fmt.Printf("not ok %d - %s: %v\n", count, what, detail)
	}
}

func call(method, path string, body any) (int, map[string]any) {
	var content io.Reader
	if body != nil {
		encoded, _ := json.Marshal(body)
		content = bytes.NewReader(encoded)
	}
	request, _ := http.NewRequest(method, api+path, content)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, map[string]any{"error": err.Error()}
	}
	defer answer.Body.Close()
	var decoded map[string]any
	_ = json.NewDecoder(answer.Body).Decode(&decoded)
	return answer.StatusCode, decoded
}

func verdict(service string) string {
	_, listed := call("GET", "/services/"+service+"/instances", nil)
	instances, _ := listed["instances"].([]any)
	if len(instances) == 0 {
		return "gone"
	}
	return instances[0].(map[string]any)["verdict"].(string)
}

func until(service, wanted string) string {
	seen := ""
	for i := 0; i < 200 && seen != wanted; i++ {
		time.Sleep(50 * time.Millisecond)
		seen = verdict(service)
	}
	return seen
}

// open starts a session stream for a lease and returns its input, output and connection.
func open(lease string) (*io.PipeWriter, *bufio.Reader, *http.Transport) {
	reader, writer := io.Pipe()
	transport := &http.Transport{}
	request, _ := http.NewRequest("POST", api+"/session", reader)
	request.Header.Set("Content-Type", "application/x-ndjson")
	go fmt.Fprintf(writer, "{\"hello\":{\"name\":\"go-client\",\"leases\":[\"%s\"]}}\n", lease)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		fmt.Println("not ok - session:", err)
		os.Exit(1)
	}
	return writer, bufio.NewReader(answer.Body), transport
}

func main() {
	body := map[string]any{"service": "go-web", "id": "one", "address": "127.9.0.3", "port": 8080, "ttl_ms": 60000}
	status, registered := call("POST", "/instances", body)
	lease, _ := registered["lease"].(string)
	check("register", status == 201 && lease != "", registered)

	_, listed := call("GET", "/services/go-web/instances", nil)
	revision := listed["revision"].(float64)
	go func() {
		time.Sleep(300 * time.Millisecond)
		call("PATCH", "/services/go-web/instances/one", map[string]any{"weight": 3})
	}()
	_, polled := call("GET", fmt.Sprintf("/services/go-web/instances?after=%.0f&wait=20s", revision), nil)
	check("a long poll is answered by the change", polled["revision"].(float64) > revision, polled)

	writer, reader, transport := open(lease)
	line, _ := reader.ReadString('\n')
	check("session welcome", bytes.Contains([]byte(line), []byte("welcome")), line)
	go fmt.Fprint(writer, "{\"renew\":true}\n")
	line, _ = reader.ReadString('\n')
	check("renewal over the session", bytes.Contains([]byte(line), []byte("\"renewed\":1")), line)

	writer.CloseWithError(io.ErrUnexpectedEOF) // the request breaks off: no last chunk
	transport.CloseIdleConnections()
	check("a broken session makes the instance suspect", until("go-web", "suspect") == "suspect", verdict("go-web"))

	writer, reader, _ = open(lease)
	_, _ = reader.ReadString('\n')
	check("a new session undoes it", until("go-web", "up") == "up", verdict("go-web"))
	go fmt.Fprint(writer, "{\"bye\":true}\n")
	_, _ = io.ReadAll(reader)
	check("a session that says bye leaves the verdict", verdict("go-web") == "up", verdict("go-web"))

	status, _ = call("DELETE", "/leases/"+lease, nil)
	check("ending the lease", status == 204 && until("go-web", "gone") == "gone", status)
}
