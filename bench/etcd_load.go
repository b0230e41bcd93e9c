// A load generator for servers that speak etcd: gRPC on hand-made HTTP/2 frames, every answer checked.
//
//	etcd_load ADDRESS fill COUNT | load OP CONNECTIONS STREAMS SECONDS | keepalive CONNECTIONS STREAMS SECONDS
//	          | fanout KEYS WATCHERS CONNECTIONS STREAMS CHANGES
//
// The header table of the peer is set to nothing, so header blocks need not be read: an answer that is no refusal has a
// message, and the message is checked. Prints one JSON object. fanout prints one before, when all watch, and waits for a line.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	kv    = "/etcdserverpb.KV/"
	size  = 256
	tens  = 100
	wides = 5
	wide  = 1000
)

var address string
var keys = 10000
var value = make([]byte, size)

type stream struct {
	buffer []byte
	heard  func(message []byte)
	ended  func()
}

type connection struct {
	net     net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	streams map[uint32]*stream
	next    uint32
	owed    uint32
	lock    sync.Mutex
	payload []byte
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func dial() *connection {
	c := &connection{net: must(net.Dial("tcp", address)), streams: map[uint32]*stream{}, next: 1, payload: make([]byte, 1<<20)}
	c.in, c.out = bufio.NewReaderSize(c.net, 1<<17), bufio.NewWriterSize(c.net, 1<<16)
	io.WriteString(c.out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	// Header table 0, no push, a window of 1 GiB, frames of up to 1 MiB.
	c.frame(4, 0, 0, []byte{0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0x40, 0, 0, 0, 0, 5, 0, 0x10, 0, 0})
	c.frame(8, 0, 0, []byte{0x3f, 0, 0, 0})
	return c
}

func (c *connection) frame(kind, flags byte, id uint32, payload []byte) {
	head := [9]byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	binary.BigEndian.PutUint32(head[5:], id)
	c.out.Write(head[:])
	c.out.Write(payload)
}

func text(to []byte, value string) []byte { return append(append(to, byte(len(value))), value...) }

func (c *connection) open(path string, s *stream) uint32 {
	id := c.next
	c.next += 2
	c.streams[id] = s
	// Each block says that it keeps no table, which the first one after the peer's settings has to (RFC 7541 §4.2).
	block := text([]byte{0x20, 0x83, 0x86, 0x04}, path)
	block = text(append(block, 0x01), "localhost")
	block = text(append(block, 0x0f, 0x10), "application/grpc")
	block = text(text(append(block, 0x00), "te"), "trailers")
	c.frame(1, 4, id, block)
	return id
}

func (c *connection) send(id uint32, message []byte, end byte) {
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	framed = append(framed, message...)
	for len(framed) > 16384 {
		c.frame(0, 0, id, framed[:16384])
		framed = framed[16384:]
	}
	c.frame(0, end, id, framed)
}

// step takes one frame; what is to be sent goes out before it would wait.
func (c *connection) step() error {
	if c.in.Buffered() < 9 {
		c.lock.Lock()
		err := c.out.Flush()
		c.lock.Unlock()
		if err != nil {
			return err
		}
	}
	var head [9]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	payload := c.payload[:length]
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	id := binary.BigEndian.Uint32(head[5:])
	s := c.streams[id]
	switch head[3] {
	case 0:
		if c.owed += uint32(length); c.owed > 1<<24 {
			c.frame(8, 0, 0, binary.BigEndian.AppendUint32(nil, c.owed))
			c.owed = 0
		}
		if s != nil {
			s.take(payload)
		}
	case 3:
		if s != nil {
			delete(c.streams, id)
			s.ended()
			return nil
		}
	case 4:
		if head[4]&1 == 0 {
			c.frame(4, 1, 0, nil)
		}
	case 6:
		if head[4]&1 == 0 {
			c.frame(6, 1, 0, payload)
		}
	case 7:
		return fmt.Errorf("the server goes away: %d %s", payload[7], payload[8:])
	}
	if s != nil && head[3] <= 1 && head[4]&1 == 1 {
		delete(c.streams, id)
		s.ended()
	}
	return nil
}

func (s *stream) take(data []byte) {
	if len(s.buffer) > 0 {
		data = append(s.buffer, data...)
		s.buffer = nil
	}
	for len(data) >= 5 && len(data) >= 5+int(binary.BigEndian.Uint32(data[1:])) {
		end := 5 + int(binary.BigEndian.Uint32(data[1:]))
		s.heard(data[5:end])
		data = data[end:]
	}
	s.buffer = append([]byte(nil), data...)
}

// --- messages

func number(to []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(to, uint64(field<<3)), v)
}

func blob(to []byte, field int, v []byte) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(to, uint64(field<<3|2)), uint64(len(v))), v...)
}

// count says how often a field of bytes stands in a message, and gives the last number of another field.
func count(message []byte, field, numbered int) (times int, last uint64) {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		v, m := binary.Uvarint(message[n:])
		message = message[n+m:]
		if tag&7 == 2 {
			message = message[v:]
			if int(tag>>3) == field {
				times++
			}
		} else if int(tag>>3) == numbered {
			last = v
		}
	}
	return
}

func key(i int) []byte    { return []byte(fmt.Sprintf("k/%08d", i)) }
func put(k []byte) []byte { return blob(blob(nil, 1, k), 2, value) }
func after(prefix []byte) []byte {
	return append(append([]byte{}, prefix[:len(prefix)-1]...), prefix[len(prefix)-1]+1)
}
func below(prefix string) []byte { return blob(blob(nil, 1, []byte(prefix)), 2, after([]byte(prefix))) }
func holds(n int) func([]byte) bool {
	return func(m []byte) bool { got, _ := count(m, 2, 4); return got == n }
}
func answered(m []byte) bool   { got, _ := count(m, 1, 0); return got == 1 }
func succeeded(m []byte) bool  { _, ok := count(m, 1, 2); return ok == 1 }
func granted(m []byte) bool    { _, id := count(m, 1, 2); return id != 0 }
func pick(r *rand.Rand) []byte { return key(r.Intn(keys)) }

func transaction(k []byte) []byte {
	compare := append(blob(number(nil, 1, 1), 3, k), 4<<3, 0) // its version is greater than 0
	write := blob(nil, 2, put(k))
	return blob(blob(blob(nil, 1, compare), 2, write), 3, write)
}

func request(op string, r *rand.Rand) (string, []byte, func([]byte) bool) {
	switch op {
	case "range":
		return kv + "Range", blob(nil, 1, pick(r)), holds(1)
	case "serializable":
		return kv + "Range", number(blob(nil, 1, pick(r)), 7, 1), holds(1)
	case "ten":
		return kv + "Range", below(fmt.Sprintf("ten/%04d/", r.Intn(tens))), holds(10)
	case "thousand":
		return kv + "Range", below(fmt.Sprintf("thousand/%04d/", r.Intn(wides))), holds(wide)
	case "put":
		return kv + "Put", put(pick(r)), answered
	case "txn":
		return kv + "Txn", transaction(pick(r)), succeeded
	case "grant":
		return "/etcdserverpb.Lease/LeaseGrant", number(nil, 1, 3600), granted
	case "mixed":
		if r.Intn(10) == 0 {
			return request("put", r)
		}
		return request("range", r)
	}
	panic(op)
}

// --- what is measured

type result map[string]any

func cpu() float64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return float64(used.Utime.Sec+used.Stime.Sec) + float64(used.Utime.Usec+used.Stime.Usec)/1e6
}

func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(float64(len(sorted))*share))]) / 1e6
}

func summary(all [][]time.Duration, bad int) result {
	var flat []time.Duration
	for _, each := range all {
		flat = append(flat, each...)
	}
	sort.Slice(flat, func(i, j int) bool { return flat[i] < flat[j] })
	return result{"operations": len(flat), "bad": bad, "p50_ms": quantile(flat, 0.5), "p99_ms": quantile(flat, 0.99), "max_ms": quantile(flat, 1)}
}

// load keeps one call in flight on each stream of each connection.
func load(op string, connections, streams int, seconds float64) result {
	all, bad := make([][]time.Duration, connections), make([]int, connections)
	var done sync.WaitGroup
	began, used := time.Now(), cpu()
	until := began.Add(time.Duration(seconds * 1e9))
	for i := range all {
		c, r, live := dial(), rand.New(rand.NewSource(int64(i)+began.UnixNano())), streams
		var issue func()
		issue = func() {
			path, message, good := request(op, r)
			sent, ok := time.Now(), false
			s := &stream{heard: func(m []byte) { ok = good(m) }}
			s.ended = func() {
				now := time.Now()
				all[i] = append(all[i], now.Sub(sent))
				if !ok {
					bad[i]++
				}
				if live--; now.Before(until) {
					live++
					issue()
				}
			}
			c.send(c.open(path, s), message, 1)
		}
		done.Add(1)
		go func() {
			defer done.Done()
			for range streams {
				issue()
			}
			for live > 0 {
				if c.step() != nil {
					bad[i] += live
					return
				}
			}
			c.net.Close()
		}()
	}
	done.Wait()
	total := 0
	for _, each := range bad {
		total += each
	}
	took := time.Since(began).Seconds()
	found := summary(all, total)
	found["per_second"], found["generator_cpu"] = float64(found["operations"].(int))/took, (cpu()-used)/took
	return found
}

// once makes one call and waits for it.
func (c *connection) once(path string, message []byte) (answer []byte) {
	ended := false
	s := &stream{heard: func(m []byte) { answer = append([]byte{}, m...) }, ended: func() { ended = true }}
	c.send(c.open(path, s), message, 1)
	for !ended {
		must(0, c.step())
	}
	if answer == nil {
		must(0, fmt.Errorf("%s was refused", path))
	}
	return
}

func fill(n int) result {
	c, began := dial(), time.Now()
	var all [][]byte
	for i := range n {
		all = append(all, key(i))
	}
	for i := range tens * 10 {
		all = append(all, []byte(fmt.Sprintf("ten/%04d/%04d", i/10, i%10)))
	}
	for i := range wides * wide {
		all = append(all, []byte(fmt.Sprintf("thousand/%04d/%04d", i/wide, i%wide)))
	}
	for len(all) > 0 {
		m := min(100, len(all))
		var message []byte
		for _, k := range all[:m] {
			message = blob(message, 2, blob(nil, 2, put(k)))
		}
		c.once(kv+"Txn", message)
		all = all[m:]
	}
	return result{"seconds": time.Since(began).Seconds(), "operations": n + tens*10 + wides*wide}
}

func keepalive(connections, streams int, seconds float64) result {
	var leases []uint64
	first := dial()
	for range 1000 {
		_, id := count(first.once("/etcdserverpb.Lease/LeaseGrant", number(nil, 1, 3600)), 1, 2)
		leases = append(leases, id)
	}
	all, bad := make([][]time.Duration, connections), make([]int, connections)
	var done sync.WaitGroup
	began, used := time.Now(), cpu()
	until := began.Add(time.Duration(seconds * 1e9))
	for i := range all {
		done.Add(1)
		go func() {
			defer done.Done()
			c, live := dial(), streams
			for j := range streams {
				turn := i*streams + j
				var id uint32
				var sent time.Time
				s := &stream{ended: func() { bad[i]++; live-- }}
				ask := func() {
					sent = time.Now()
					c.send(id, number(nil, 1, leases[turn%len(leases)]), 0)
					turn += connections * streams
				}
				s.heard = func(m []byte) {
					all[i] = append(all[i], time.Since(sent))
					if _, left := count(m, 1, 3); left == 0 {
						bad[i]++
					}
					if time.Now().Before(until) {
						ask()
					} else {
						live--
					}
				}
				id = c.open("/etcdserverpb.Lease/LeaseKeepAlive", s)
				ask()
			}
			for live > 0 {
				if c.step() != nil {
					bad[i] += live
					return
				}
			}
			c.net.Close()
		}()
	}
	done.Wait()
	total := 0
	for _, each := range bad {
		total += each
	}
	took := time.Since(began).Seconds()
	found := summary(all, total)
	found["per_second"], found["generator_cpu"] = float64(found["operations"].(int))/took, (cpu()-used)/took
	return found
}

// fanout opens watchers of each key over so many streams of so many connections, and changes the keys in turn.
func fanout(names, watchers, connections, streams, changes int) result {
	var lock sync.Mutex
	var sent, acknowledged time.Time
	var fromSend, lasts, fromAnswer, writer []time.Duration
	heard := 0
	done := make(chan bool, 1)
	created := make(chan bool, 1<<20)
	total := names * watchers
	for i := range connections {
		c := dial()
		var ids []uint32
		for range streams {
			s := &stream{ended: func() { must(0, fmt.Errorf("a watch stream ended")) }}
			s.heard = func(m []byte) {
				events, made := count(m, 11, 3)
				if made == 1 {
					created <- true
				}
				if events == 0 {
					return
				}
				now := time.Now()
				lock.Lock()
				for range events {
					fromSend = append(fromSend, now.Sub(sent))
					heard++
				}
				if heard == watchers*changes*names {
					done <- true
				} else if names == 1 && heard%watchers == 0 {
					done <- true
				}
				lock.Unlock()
			}
			ids = append(ids, c.open("/etcdserverpb.Watch/Watch", s))
		}
		mine := 0
		for w := i; w < total; w += connections {
			create := number(blob(nil, 1, []byte(fmt.Sprintf("fan/%04d", w%names))), 7, uint64(w/connections/streams+1))
			c.lock.Lock()
			c.send(ids[(w/connections)%streams], blob(nil, 1, create), 0)
			c.lock.Unlock()
			if mine++; mine%64 == 0 {
				for len(created) < mine {
					must(0, c.step())
				}
				for range mine {
					<-created
				}
				mine = 0
			}
		}
		for len(created) < mine {
			must(0, c.step())
		}
		for range mine {
			<-created
		}
		go func() {
			for c.step() == nil {
			}
		}()
	}
	// Whoever runs this looks at the server now, and says when to go on.
	json.NewEncoder(os.Stdout).Encode(result{"watching": total})
	bufio.NewReader(os.Stdin).ReadString('\n')
	w, began, used := dial(), time.Now(), cpu()
	last := time.Duration(0)
	for turn := range changes {
		for name := range names {
			lock.Lock()
			sent = time.Now()
			lock.Unlock()
			w.once(kv+"Put", put([]byte(fmt.Sprintf("fan/%04d", name))))
			acknowledged = time.Now()
			writer = append(writer, acknowledged.Sub(sent))
			if names == 1 {
				<-done
				lock.Lock()
				took := time.Since(acknowledged)
				lasts = append(lasts, time.Since(sent))
				lock.Unlock()
				fromAnswer = append(fromAnswer, took)
				last = max(last, took)
				time.Sleep(20 * time.Millisecond)
			}
		}
		_ = turn
	}
	if names > 1 {
		<-done
	}
	took := time.Since(began).Seconds()
	found := summary([][]time.Duration{fromSend}, 0)
	waits := summary([][]time.Duration{writer}, 0)
	late := summary([][]time.Duration{fromAnswer}, 0)
	whole := summary([][]time.Duration{lasts}, 0)
	return result{
		"events": heard, "p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"], "last_ms": whole["p50_ms"], "last_after_answer_ms": late["p50_ms"],
		"last_after_answer_max_ms": late["max_ms"], "put_p50_ms": waits["p50_ms"], "put_max_ms": waits["max_ms"],
		"per_second": float64(heard) / took, "generator_cpu": (cpu() - used) / took,
	}
}

func main() {
	address = os.Args[1]
	var n []int
	for _, each := range os.Args[3:] {
		v, _ := strconv.Atoi(each)
		n = append(n, v)
	}
	seconds := func(at int) float64 { return must(strconv.ParseFloat(os.Args[at], 64)) }
	var found result
	switch os.Args[2] {
	case "fill":
		found = fill(n[0])
	case "load":
		found = load(os.Args[3], n[1], n[2], seconds(6))
	case "keepalive":
		found = keepalive(n[0], n[1], seconds(5))
	case "fanout":
		found = fanout(n[0], n[1], n[2], n[3], n[4])
	default:
		must(0, fmt.Errorf("unknown: %s", os.Args[2]))
	}
	must(0, json.NewEncoder(os.Stdout).Encode(found))
}
