"""Every limit, once, with its reason and where the field has set it before.

Sizes are bytes, times are milliseconds, everything else is a count; the unit ends the name. A limit that users may
change is the default of a field of ``core.Rules`` or of a room's options; the others are fixed.
"""

from __future__ import annotations

from typing import Final

# --- names and values of the catalogue ---------------------------------------------------------------------------
NAMESPACE_SIZE_MAX: Final = 128
"""Nacos allows 128 for a namespace id; the others have shorter or none."""
SERVICE_SIZE_MAX: Final = 255
"""Fits Dubbo's ``providers:interface:version:group`` names and a DNS name; Nacos allows 512 with its group."""
INSTANCE_ID_SIZE_MAX: Final = 512
"""Nacos builds ids as ``ip#port#cluster#group@@service``, so an id can hold a service name and more."""
ADDRESS_SIZE_MAX: Final = 253
"""The longest DNS name (RFC 1035 §2.3.4)."""
PORT_MAX: Final = 65_535
PORTS_COUNT_MAX: Final = 16
"""Further named ports per instance; Kubernetes services rarely pass five."""
TAGS_COUNT_MAX: Final = 128
TAG_SIZE_MAX: Final = 1_024
"""Traefik writes its whole routing rule into one Consul tag."""
METADATA_COUNT_MAX: Final = 128
"""Consul allows 64 pairs; Nacos and Eureka set no count and Spring programs exceed 64."""
METADATA_KEY_SIZE_MAX: Final = 256
METADATA_VALUE_SIZE_MAX: Final = 8_192
"""Dubbo puts method lists and service revisions into one value; Consul's 512 is too small for them."""
METADATA_SIZE_MAX: Final = 65_536
"""All pairs of one instance, so that a service of a thousand instances still fits in one answer."""
LABEL_SIZE_MAX: Final = 128
"""Region, zone, cluster, node, protocol, claim and reason codes."""
REASON_SIZE_MAX: Final = 1_024
"""What an operator or a probe says about an instance; longer texts are cut with an ellipsis."""
WEIGHT_MAX: Final = 65_535.0
"""Nacos allows 10,000, Consul and DNS SRV 65,535."""

# --- how much the registry holds -----------------------------------------------------------------------------------
INSTANCES_COUNT_MAX: Final = 5_000_000
"""About 5 GB of memory at 1 KB an instance; beyond that a start takes longer than clients wait."""
SERVICES_COUNT_MAX: Final = 1_000_000
LEASES_COUNT_MAX: Final = 10_000_000
TOKENS_COUNT_MAX: Final = 100_000
POLICIES_COUNT_MAX: Final = 10_000
ROLES_COUNT_MAX: Final = 10_000
TOGETHER_COUNT_MAX: Final = 256
"""Commands in one commit: the 128 operations of a transaction of Consul's, and what they bring along."""
BATCH_COUNT_MAX: Final = 10_000
"""Instances in one batch register, leases in one renewal, failures in one report: bounded work per request."""
INTERNED_COUNT_MAX: Final = 65_536
"""Texts, tag lists and dictionaries remembered for sharing, each; about 10 MB when full, and then it begins anew."""

# --- leases --------------------------------------------------------------------------------------------------------
LEASE_TTL_MIN_MS: Final = 1_000
"""A second survives an ordinary garbage collection pause of a client; etcd's minimum is 2 s, Consul's 10 s."""
LEASE_TTL_DEV_MIN_MS: Final = 100
"""``--dev`` relaxes the minimum so that a trial need not wait."""
LEASE_TTL_DEFAULT_MS: Final = 15_000
"""Three heartbeats of 5 s, as with Nacos."""
LEASE_TTL_MAX_MS: Final = 9_000_000_000_000
"""etcd's maximum of 9,000,000,000 s."""
EVICTION_GRACE_TTLS: Final = 1
"""A lapsed instance stays as SUSPECT for as long again as its TTL (Nacos: unhealthy at 15 s, gone at 30 s)."""
LAPSES_PER_SWEEP_MAX: Final = 1_000
"""The storm brake: leases that one sweep may declare lapsed or ended (etcd revokes at most 1,000 a second)."""
LEASE_ATTACHMENTS_MAX: Final = 100_000
"""Instances and keys on one lease: ending it is one commit whose fan-out is done at once."""
SWEEP_SCAN_MAX: Final = 20_000
"""Silent leases that one sweep looks at: about 10 ms, wherever a mass disappearance left more of them held."""

# --- removal floor ---------------------------------------------------------------------------------------------------
FLOOR_RATIO_DEFAULT: Final = 0.5
"""Below half of the known instances, silence is more likely ours or the network's than theirs (Eureka 0.85 of renewals)."""
FLOOR_INSTANCES_MIN: Final = 3
"""A service of one or two instances has no floor: its last instance must be allowed to die (Eureka never lets it)."""
FLOOR_REGISTRY_INSTANCES_MIN: Final = 20
"""The floor over the whole registry begins here: below, a few services of one instance each are all there is, and each
of them must be allowed to die."""
FLOOR_WINDOW_MS: Final = 600_000
"""How long a silent removal still counts against the floor; ten minutes outlast a rolling restart of a site."""
FLOOR_HOLD_MAX_MS: Final = 1_800_000
"""The protection lets go: an instance silent for half an hour is not coming back by itself."""

# --- callers' reports ------------------------------------------------------------------------------------------------
REPORT_FAILURES_MIN: Final = 3
"""Failures within the window that make an instance SUSPECT; Envoy ejects after 5 in a row, per caller."""
REPORT_WINDOW_MS: Final = 10_000
REPORT_HOLD_MS: Final = 30_000
"""How long reports keep an instance out; Envoy's base ejection time."""
REPORTERS_TRACKED_MAX: Final = 10_000
"""Instances with fresh reports that the hub remembers; the oldest is forgotten first."""

# --- checks and nodes ------------------------------------------------------------------------------------------------
CHECKS_COUNT_MAX: Final = 1_000_000
"""About 1 KB each with a target and an output."""
CHECKS_PER_INSTANCE_MAX: Final = 64
"""Each is looked at when one of them changes; real services have one or two."""
NODES_COUNT_MAX: Final = 100_000
"""Ten times the largest Consul datacenter known."""
CHECK_OUTPUT_SIZE_MAX: Final = 4_096
"""Bytes kept of what a check says (Consul)."""
CHECK_TARGET_SIZE_MAX: Final = 2_048
"""A URL with its query."""
CHECK_BODY_SIZE_MAX: Final = 16_384
"""Of an HTTP check's request."""
CHECK_INTERVAL_MIN_MS: Final = 1_000
"""Consul's minimum; more often than a second is a load test."""
CHECK_INTERVAL_DEFAULT_MS: Final = 10_000
CHECK_TIMEOUT_DEFAULT_MS: Final = 10_000
"""Consul's default for http, tcp, udp and grpc; never longer than the interval needs."""
CHECK_TIMEOUT_MAX_MS: Final = 60_000
CHECK_THRESHOLD_MAX: Final = 1_000
"""Successes or failures in a row that a check may ask for."""
DEREGISTER_CRITICAL_MIN_MS: Final = 60_000
"""Consul's minimum of DeregisterCriticalServiceAfter: a restart of a machine should not cost its registrations."""
DEREGISTER_CRITICAL_DEV_MIN_MS: Final = 1_000
"""``--dev`` relaxes the minimum, and looks as often, so that a trial need not wait."""
REAP_INTERVAL_MS: Final = 30_000
"""How often checks that are critical for too long are looked for (Consul)."""
REAPS_PER_TURN_MAX: Final = 100
"""Deregistrations that one look may ask for."""
PROBES_AT_ONCE_MAX: Final = 512
"""Open connections of probes; ten thousand probes at 10 s intervals need a few dozen."""
PROBE_READ_SIZE_MAX: Final = 65_536
"""Read of an answer before its connection is closed; 4 KB of it are kept."""
PROBE_HEAD_SIZE_MAX: Final = 32_768
"""Header of an answer to a probe."""
PROBE_REDIRECTS_MAX: Final = 5
"""Within the same host and port; Go's client stops at 10."""
PROBE_OUTPUT_INTERVAL_MS: Final = 300_000
"""An output that changes while the status stays is written down this often (Consul's check_update_interval)."""
DIALBACK_TIMEOUT_MS: Final = 2_000
DIALBACKS_AT_ONCE_MAX: Final = 32
DIALBACK_SPACING_MS: Final = 10
"""Between two dials: a hundred a second cost about 2 % of a core."""
DIALBACKS_WAITING_MAX: Final = 1_000
"""Further registrations go without: a mass registration is not to become a scan."""
DIALBACKS_REMEMBERED_MAX: Final = 1_000
"""Instances that could not be reached, for ``status``."""

# --- history, keys and transactions ------------------------------------------------------------------------------------
SERVICE_LOG_COUNT_MAX: Final = 256
"""Changes of one service that a watcher may lag behind before it must list again; a list of the service is no larger."""
REMOVED_SERVICES_REMEMBERED_MAX: Final = 10_000
"""Logs of services that are gone, so that their watchers learn of the end rather than of compaction."""
KEY_SIZE_MAX: Final = 4_096
"""etcd has no limit of its own; ZooKeeper paths and Consul keys stay far below."""
VALUE_SIZE_MAX: Final = 1_572_864
"""etcd's limit for a whole request; ZooKeeper has 1 MiB, Consul 512 KiB."""
WATCH_PROGRESS_MS: Final = 600_000
"""An etcd watch that asked for it and was quiet for so long is told how far it is (etcd's watch progress interval)."""
TXN_OPERATIONS_MAX: Final = 128
"""etcd's and Consul's limit, for compares, success and failure branch each."""
TXN_DEPTH_MAX: Final = 4
"""Nested transactions; deeper ones occur nowhere and would make the footprint of a command unclear."""
RANGE_COUNT_MAX: Final = 100_000
"""Keys in one native answer; more are fetched page by page."""
KEY_HISTORY_COUNT_MAX: Final = 1_000_000
"""Revisions that a space keeps before it compacts by itself (etcd: 5-minute or 1,000-revision modes are usual)."""
SPACES_COUNT_MAX: Final = 64
"""One for each protocol and a few of an operator's own; each is walked when a session ends."""
KEY_HISTORY_SIZE_MAX: Final = 536_870_912
"""Bytes of history that a space keeps before it compacts by itself: a quarter of its quota, which counts present keys."""
KEY_PURGE_COUNT_MAX: Final = 10_000
"""Forgotten revisions that one commit frees at most: about 5 ms, so that a compaction never stalls the writer."""
KEY_PURGE_STEP_COUNT: Final = 64
"""Forgotten revisions that each later commit frees until all are."""
SESSION_LOCK_DELAY_MAX_MS: Final = 60_000
"""Consul's maximum."""
SPACE_SIZE_DEFAULT_MAX: Final = 2_147_483_648
"""etcd's default quota of 2 GiB per space."""
LOCK_WAITERS_MAX: Final = 10_000
"""Waiters in the queue of one lock."""
LAYOUT_VALUE_SIZE_MAX: Final = 65_536
"""A larger value is no instance: as much as all metadata of one may have."""
LAYOUT_BRACKETS_MAX: Final = 256
"""Brackets in a value that may be an instance: they bound its nesting, whatever calls the decoder."""
TIES_COUNT_MAX: Final = 64
"""Prefixes of keys tied to the catalogue; each is compared with every key written in its space."""

# --- access ------------------------------------------------------------------------------------------------------------
POLICY_RULES_MAX: Final = 1_000
TOKEN_POLICIES_MAX: Final = 64
TOKEN_ROLES_MAX: Final = 64
ACCESS_EXTRA_SIZE_MAX: Final = 131_072
"""Characters that a face keeps with a policy, role or token: the text of Consul's rules, identities."""
TOKEN_SECRET_SIZE_MIN: Final = 16
"""Secrets that somebody chose: stored with a fast hash, so they must be long (a UUID has 36 characters)."""
TOKEN_SECRET_SIZE_MAX: Final = 512
"""A longer presented secret is not hashed at all."""
USERS_COUNT_MAX: Final = 10_000
"""Users of one key space that manages its own (etcd)."""
USER_NAME_SIZE_MAX: Final = 1_024
"""Names of users and roles; certificates allow 64 characters for a common name."""
USER_ROLES_MAX: Final = 128
KEY_ROLES_COUNT_MAX: Final = 10_000
KEY_ROLE_PERMISSIONS_MAX: Final = 1_000
"""Ranges that one role grants; a user's are merged once and then looked through for each request."""
PERMISSION_SIZE_MAX: Final = 65_536
"""Bytes of both ends of a permission's range."""
PASSWORD_SIZE_MAX: Final = 1_024
"""bcrypt, which etcd uses, looks at 72 bytes."""
PASSWORD_COST: Final = 14
"""Logarithm of scrypt's cost: 16 MB and some 50 ms a hash, as much as etcd's bcrypt with cost 10 takes."""
PASSWORDS_REMEMBERED_MAX: Final = 10_000
"""Passwords found right, remembered as keyed hashes in memory, so that a fleet that logs in again is not hashed slowly."""
LOGINS_COUNT_MAX: Final = 100_000
"""Tokens of users that are valid at once; beyond, the one that was used longest ago ends."""
LOGIN_TTL_MS: Final = 300_000
"""A token ends when it was not used for so long; etcd's default."""
WORK_COUNT_MAX: Final = 256
"""Slow computations that wait for their turn beside the loop; at 50 ms each the last one waits 13 s."""
WORK_PER_ADDRESS_MAX: Final = 128
"""Of one address, or one IPv6 network of 64 bits: a fleet behind one address may log in again at once; addresses take
turns, and where there is no more room the longest queue gives way."""
WORK_WAIT_MS: Final = 30_000
"""How long a request waits for one."""
SNAPSHOT_PIECE_SIZE: Final = 32_768
"""Bytes of one message of an etcd snapshot, as etcd sends them."""
GATEWAY_BODY_SIZE_MAX: Final = 2_097_152
"""etcd's 1.5 MiB of a message in base64, with room for names."""
GATEWAY_MEMO_COUNT_MAX: Final = 4_096
"""Bodies, answers and pairs whose other form is remembered, each in two generations; some 80 MB at the very most."""
GATEWAY_MEMO_SIZE_MAX: Final = 1_024
"""Larger ones are made anew each time; of a range its pairs are remembered one by one."""
GATEWAY_LARGE_COUNT_MAX: Final = 64
"""Large ranges whose JSON is remembered whole: those that many clients list again and again."""
GATEWAY_LARGE_SIZE_MAX: Final = 262_144
"""The largest of them, as protobuf: a thousand keys of ordinary size; some 40 MB for all at the very most."""
GATEWAY_OBJECT_SIZE_MAX: Final = 65_536
"""One object of a streaming body: what asks for a watch or a renewal is small."""

# --- hub ---------------------------------------------------------------------------------------------------------------
GROUP_COMMITS_MAX: Final = 1_024
"""Commands in one group commit: about 20 ms of deciding, evolving and answering, so that others keep their p99."""
PENDING_COMMANDS_MAX: Final = 65_536
"""Commands waiting for the writer; more are refused with OverLimit rather than kept waiting past their deadline."""
CURSORS_COUNT_MAX: Final = 200_000
"""Parked reads and streams; 3 KB each on the HTTP side."""
FANOUT_SLICE_COUNT: Final = 256
"""Cursors woken before other requests get a turn: about 2 ms."""
COMMIT_SIZE_MAX: Final = 16_777_216
"""One journal entry; larger ones would stall every other writer."""
SNAPSHOT_STATE_SIZE_MAX: Final = 134_217_728
"""Of an archive that is restored, unpacked: what it changes must fit one commit, so beyond it is a bomb."""
SNAPSHOT_EVERY_COMMITS: Final = 200_000
"""Commits between snapshots: replaying that many takes about 2 s."""
SNAPSHOT_EVERY_SIZE: Final = 268_435_456
"""Journal bytes between snapshots, whichever comes first."""
STALL_MIN_MS: Final = 250
"""A gap between two ticks of the hub that counts as our own stall and extends deadlines."""

# --- engine ------------------------------------------------------------------------------------------------------------
GROUP_SIZE_MAX: Final = 268_435_456
"""Blobs of one group commit together; a torn tail is searched no further, and one group is held in memory on replay."""
SEGMENT_SIZE: Final = 33_554_432
"""A journal segment is closed beyond this: small enough to be checked within 50 ms at a start (etcd: 64 MB)."""
SEGMENT_ALLOCATE_SIZE: Final = 8_388_608
"""Disk space reserved ahead of the writer, so that fdatasync seldom has to write the file's size as well."""
SYNC_WAIT_US: Final = 200
"""The loop waits so long for a group's sync before it goes on without: as long as it takes to be told by another thread,
and short beside the tenth of a second after which a peer notices. Measured: 110 us with a quick disk, 200 when told.
"""
SYNC_WAIT_PAUSE_COUNT: Final = 100
"""Groups after a slow sync that are not waited for on the spot, so that a slow disk costs a hundredth of that wait each."""
REPLAY_BLOCK_SIZE: Final = 1_048_576
"""Read at a time on replay: large enough to make system calls vanish, small enough to stay in the processor's cache."""
SNAPSHOT_SYNC_SIZE: Final = 8_388_608
"""A snapshot is flushed each time this much was written, so that appends beside it do not wait for all of it at once."""
BACKUP_ATTEMPTS_MAX: Final = 5
"""A backup starts over when the journal it reads was trimmed meanwhile; that happens at most once per snapshot."""

# --- HTTP --------------------------------------------------------------------------------------------------------------
HEADER_COUNT_MAX: Final = 100
"""Apache's limit; Python's http.client also stops at 100."""
HEADER_SIZE_MAX: Final = 32_768
"""Request line and all header fields together (nginx 4 × 8 KiB)."""
TARGET_SIZE_MAX: Final = 16_384
"""The request target; a long filter expression fits."""
BODY_SIZE_MAX: Final = 8_388_608
"""A batch of 10,000 registrations is about 5 MB; faces set smaller limits per route."""
JSON_DEPTH_MAX: Final = 64
"""Nesting of a JSON body; the deepest real one (an etcd transaction) has about 12."""
PROTOBUF_DEPTH_MAX: Final = 64
"""Nesting of a protobuf message, as of JSON; protobuf's own parsers stop at 100."""
PROTOBUF_MESSAGES_MAX: Final = 65_536
"""Messages in one list: a body of empty ones, two bytes each, would otherwise take a second to read. The largest honest
list, the keys of a wide range, is one that we write and do not read."""
CONNECTIONS_MAX: Final = 20_000
"""In all; 10,000 parked watchers and as many others."""
CONNECTIONS_PER_ADDRESS_MAX: Final = 20_000
"""Loopback and NAT put a whole site behind one address, so it is as high as the total unless the operator lowers it."""
HEADER_TIMEOUT_MS: Final = 10_000
"""From the first byte of a request to the end of its header: slowloris."""
BODY_TIMEOUT_MS: Final = 30_000
"""Without a byte of an announced body."""
IDLE_TIMEOUT_MS: Final = 120_000
"""A kept-alive connection without a request."""
PIPELINE_COUNT_MAX: Final = 128
"""Pipelined requests answered in one turn; then the other connections get theirs."""
READ_AHEAD_SIZE_MAX: Final = 65_536
"""Bytes held of pipelined requests that wait for an earlier answer; reading stops beyond."""
CHUNK_LINE_SIZE_MAX: Final = 256
"""A chunk's size with its extensions, which nobody uses but attackers: they carry bytes that no other limit counts."""
LINGER_TIMEOUT_MS: Final = 1_000
"""After an early answer we read on for so long, since closing over unread bytes resets the connection and loses it."""
LISTEN_BACKLOG_COUNT: Final = 4_096
"""Connections the kernel holds for us (it cuts this to somaxconn): a restart brings all clients back at once."""
UNSENT_IN_KERNEL_SIZE_MAX: Final = 131_072
"""Of one connection, as far as Linux can be told: what lies there moves in steps of a third of its buffer, up to megabytes,
so a peer that reads slowly would look as if it did not read at all."""
TIMER_TICK_MS: Final = 50
"""Grain of the HTTP timeouts; ends of long polls come up to so much late."""
DUPLEX_PENDING_MAX: Final = 256
"""Answers that one session stream may wait for before its input is left unread."""
PARKED_PER_ADDRESS_MAX: Final = 20_000
WRITE_BUFFER_SIZE_MAX: Final = 1_048_576
"""Unsent bytes of one connection; a stream is not pulled beyond, and a reply's reader is not served further requests."""
STREAM_STALL_TIMEOUT_MS: Final = 60_000
"""A stream whose peer takes no byte for this long while data waits is closed."""
GZIP_SIZE_MIN: Final = 1_400
"""Smaller answers fit one packet anyway (Consul's threshold)."""
WAIT_DEFAULT_MS: Final = 300_000
"""A long poll without ``wait`` (Consul: 5 minutes)."""
WAIT_MAX_MS: Final = 600_000
"""Consul's cap of 10 minutes."""
STREAM_HEARTBEAT_MS: Final = 15_000
"""A comment line on a quiet stream, below the 30 to 60 s after which proxies close idle connections."""
REPLY_CACHE_COUNT_MAX: Final = 20_000
"""Rendered answers kept whole; the least recently used goes first."""
REPLY_CACHE_SIZE_MAX: Final = 268_435_456
"""The same in bytes: a list of 10,000 instances is about 3 MB."""
HEAD_MEMO_COUNT_MAX: Final = 16_384
"""Heads whose reading is remembered by their bytes (a client sends the same ones again and again), about 2 KB each."""
HEAD_MEMO_SIZE_MAX: Final = 1_024
"""Longer heads are read anew each time."""
WATCH_SERVICES_MAX: Final = 10_000
"""Services in one watch stream."""

# --- HTTP/2 and gRPC ---------------------------------------------------------------------------------------------------
HTTP2_STREAMS_MAX: Final = 20_000
"""On one connection at once. etcd sets no limit and Go's watchers may open one each; as many as may be parked."""
HTTP2_STREAM_WINDOW_SIZE: Final = 1_048_576
"""What a peer may send on one stream ahead of us; most of a largest message, so that it need not wait midway."""
HTTP2_CONNECTION_WINDOW_SIZE: Final = 4_194_304
"""The same for a connection."""
HTTP2_HELD_SIZE_MAX: Final = 67_108_864
"""Bytes of messages that are not complete or not dealt with, on one connection; forty of the largest."""
HTTP2_UNSENT_SIZE_MAX: Final = 67_108_864
"""Answers that wait for a peer's windows, on one connection; beyond, its further calls are refused."""
HTTP2_WRITE_BUFFER_SIZE_MAX: Final = 262_144
"""Unsent bytes in the socket's buffer beyond which no further data is written to it; four times loopback's pace."""
HTTP2_FRAMES_PER_TURN: Final = 512
"""Frames of one connection read in one turn of the loop, some 3 ms; then the other connections get theirs."""
HTTP2_CONTINUATIONS_MAX: Final = 8
"""CONTINUATION frames of one header block: two hold the largest (the flood of 2024 sent them without end)."""
HTTP2_DROPPED_COUNT_MAX: Final = 1_000
"""Streams remembered that we ended while the peer was still sending; what comes late for them is no fault."""
HTTP2_NOISE_MAX: Final = 32_768
"""Frames in a burst that ask for nothing; to cancel ten thousand calls at once takes two thirds of it."""
HTTP2_NOISE_PER_TICK: Final = 1_000
"""How many of them each tick allows: 20,000 a second cost about 5 % of a core."""
HTTP2_PING_AFTER_MS: Final = 60_000
"""A connection that was silent for so long is asked whether it is still there; clients may leave it open for ever."""
HTTP2_PING_TIMEOUT_MS: Final = 20_000
"""Then it has so long to say anything (etcd's and gRPC's keep-alive timeout)."""
HTTP2_HEAD_MEMO_COUNT_MAX: Final = 8_192
"""Header blocks whose reading is remembered, in each of two generations; about 2 KB each."""
HTTP2_FIELD_MEMO_COUNT_MAX: Final = 16_384
"""The same for single fields, of clients that change one with each request; about 300 bytes each."""
HTTP2_HEAD_MEMO_SIZE_MAX: Final = 1_024
"""Longer header blocks are read anew each time."""
GRPC_MESSAGE_SIZE_MAX: Final = 1_572_864
"""One request message unless its method says otherwise: etcd's ``max-request-bytes`` of 1.5 MiB."""

# --- filter expressions ------------------------------------------------------------------------------------------------
FILTER_SIZE_MAX: Final = 4_096
"""Characters of one expression; a quarter of a request target, so it fits percent-encoded."""
FILTER_TERMS_MAX: Final = 64
"""Comparisons in one expression: each is evaluated on every instance."""
FILTER_DEPTH_MAX: Final = 32
"""Nested parentheses, and groups of a pattern; people write three."""
FILTER_PATTERN_SIZE_MAX: Final = 512
"""Characters of one regular expression; RE2 bounds the compiled program only."""
FILTER_PROGRAM_MAX: Final = 1_000
"""Instructions of a compiled pattern (RE2: 1,000 repetitions, then a memory budget)."""
FILTER_WORK_MAX: Final = 1_000_000
"""Steps that the patterns of one request may take beyond cached look-ups: about 0.2 s, then it is refused."""

# --- native protocol ----------------------------------------------------------------------------------------------------
SESSION_LINE_SIZE_MAX: Final = 1_048_576
"""One line of a session stream: 10,000 lease ids are about 220 KB."""
SESSION_LEASES_MAX: Final = 10_000
"""Leases that one session keeps alive; as many as one batch may renew."""
FRAGMENTS_CACHED_MAX: Final = 65_536
"""Rendered instances kept: about 40 MB at 600 bytes each; the oldest go first."""
ANSWERS_CACHED_MAX: Final = 4_096
"""Rendered service answers and watch events kept, each shared by all who ask or watch."""
ANSWER_CACHED_SIZE_MAX: Final = 1_048_576
"""A larger answer is rendered anew each time rather than kept."""

# --- DNS ---------------------------------------------------------------------------------------------------------------
DNS_QUERY_SIZE_MAX: Final = 4_096
"""A query with every option has a few hundred bytes; a longer one is refused, and over TCP its connection closed."""
DNS_QUERY_RECORDS_MAX: Final = 16
"""Records that a query brings along: OPT, a signature, the SOA of a transfer."""
DNS_UDP_SIZE_MIN: Final = 512
"""What every client takes without EDNS (RFC 1035 §4.2.1)."""
DNS_UDP_SIZE_MAX: Final = 4_096
"""Largest UDP answer whatever the client says it takes (RFC 6891 §6.2.5); more goes over TCP."""
DNS_TCP_SIZE_MAX: Final = 65_535
"""What the length in front of a message can say (RFC 1035 §4.2.2)."""
DNS_ANSWERS_UDP_MAX: Final = 3
"""Answers without EDNS (Consul's ``udp_answer_limit``): clients that old choke on long lists."""
DNS_ALIAS_DEPTH_MAX: Final = 3
"""Names that lead on to names of our own, followed one after the other (Consul's recursion depth)."""
DNS_REVERSE_INSTANCES_MAX: Final = 200_000
"""Instances looked through for reverse names, about 0.1 s; a larger registry answers for its nodes alone."""
DNS_REVERSE_INTERVAL_MS: Final = 2_000
"""Between two look-throughs for reverse names."""
DNS_TEXT_COUNT_MAX: Final = 64
"""TXT records of one node: as many as Consul allows pairs of node metadata."""
DNS_BURST_COUNT: Final = 64
"""Datagrams answered in one turn of the loop, about 1 ms; then the other listeners get theirs."""
DNS_RECEIVE_BUFFER_SIZE: Final = 4_194_304
"""Asked of the kernel for datagrams that wait while the loop is busy; losses vanish with it (the kernel may cut it)."""
DNS_CONNECTIONS_MAX: Final = 1_024
"""TCP connections in all (BIND allows 150, Unbound 10 a thread)."""
DNS_CONNECTIONS_PER_ADDRESS_MAX: Final = 256
DNS_IDLE_TIMEOUT_MS: Final = 10_000
"""A TCP connection without a query (RFC 7766 §6.2.3 asks for seconds; Unbound 30 s, Go's library 8 s)."""
DNS_WRITE_BUFFER_SIZE_MAX: Final = 262_144
"""Unsent bytes of one TCP connection; nothing further is read from it beyond."""
DNS_ANSWERS_CACHED_MAX: Final = 20_000
"""Queries whose rendered answers are kept, about 1 KB each; a thousand services asked in twenty forms."""
DNS_CACHED_QUERY_SIZE_MAX: Final = 320
"""Longer queries are not remembered by their bytes: the longest name with every usual option fits."""
DNS_VARIANTS_COUNT: Final = 8
"""Shufflings of one answer that are kept and served in turn."""
DNS_VARIANT_USES_MAX: Final = 32
"""Answers until one is shuffled anew, so that no instance is preferred; making one costs as much as thirty kept ones."""
DNS_FORWARDS_MAX: Final = 1_024
"""Queries that wait for a recursor at the same time; more are answered with SERVFAIL."""
DNS_RECURSOR_TIMEOUT_MS: Final = 2_000
"""Wait for one recursor (Consul's ``recursor_timeout``); then the next one is asked."""
DNS_RECURSORS_COUNT_MAX: Final = 8
"""Recursors asked one after the other; clients give up after 5 to 30 s."""
DNS_RATE_DEFAULT: Final = 200
"""UDP answers a second to one foreign network (BIND's guides say 5 to 20 of one kind, for the open Internet)."""
DNS_RATE_SLIP: Final = 2
"""Each so many-th answer beyond the rate is a short truncated one, so that an honest client comes by TCP (BIND's slip)."""
DNS_RATE_NETWORKS_MAX: Final = 65_536
"""Networks that answers are counted for within one second; when full, counting begins anew."""

# --- the gateway (townhall gateway) ------------------------------------------------------------------------------------
PROXY_TIMEOUT_MS: Final = 30_000
"""From a request's head to its answer's head, all attempts together (nginx 60 s, Envoy 15 s)."""
PROXY_CONNECT_TIMEOUT_MS: Final = 2_000
"""Instances are near; who does not answer a SYN and its first repetition is not there."""
PROXY_FIRST_BYTE_TIMEOUT_MS: Final = 15_000
"""One attempt's share of ``PROXY_TIMEOUT_MS``, so that a hung instance leaves time for another."""
PROXY_IDLE_TIMEOUT_MS: Final = 60_000
"""Between two bytes of a body or a WebSocket, as with nginx; streams send something more often."""
PROXY_CLIENT_IDLE_MS: Final = 75_000
"""A client's connection without a request (nginx)."""
PROXY_BODY_SIZE_MAX: Final = 134_217_728
"""Of a request. Bodies are streamed, so this guards instances, not us."""
PROXY_REPLAY_SIZE_MAX: Final = 65_536
"""A request's body up to this is kept until it is answered, so that it can be sent to another instance."""
PROXY_INTERIM_MAX: Final = 32
"""Interim answers (1xx) before an answer; who sends more floods the client."""
PROXY_HOLD_SIZE_MAX: Final = 65_536
"""An answer of known length up to this goes out whole, so that its loss half way can still be made good."""
PROXY_IDLE_PER_INSTANCE_MAX: Final = 256
"""Kept-alive connections to one instance."""
PROXY_INSTANCE_IDLE_MS: Final = 55_000
"""A connection idle for longer is not used again: below the 60 s after which many servers close it."""
PROXY_CONNECTIONS_PER_INSTANCE_MAX: Final = 1_024
"""Envoy's circuit breaker."""
PROXY_PENDING_MAX: Final = 1_024
"""Requests of one service that wait for a connection (Envoy)."""
PROXY_REQUESTS_MAX: Final = 10_000
"""Requests of one service at the same time."""
PROXY_FAILURES_MAX: Final = 5
"""Answers in a row by which an instance says that it cannot (502, 503, 504) before it is left out (Envoy)."""
PROXY_OPEN_MS: Final = 5_000
"""How long a service's open circuit refuses everything before one request may try."""
PROXY_CONNECTIONS_MAX: Final = 20_000
"""Of clients, in all."""
PROXY_MEMO_COUNT_MAX: Final = 1_024
"""Blocks of header fields that are remembered in read form, of requests and of answers each."""
PROXY_MEMO_SIZE_MAX: Final = 2_048
"""Larger ones are not remembered: cookies and tokens of one user each."""
PROXY_BUCKETS_MAX: Final = 65_536
"""Clients whose rate is counted, for each route; the one unseen for longest is forgotten first."""
PROXY_AUTO_SERVICES_MAX: Final = 1_024
"""Services that ``--auto`` follows because somebody asked for them."""
PROXY_BUFFER_SIZE_MAX: Final = 262_144
"""Unsent bytes of one side beyond which the other is not read."""
PROXY_STOP_TIMEOUT_MS: Final = 30_000
"""How long running requests may take when the gateway stops."""
PROXY_STREAMS_MAX: Final = 128
"""Requests at the same time on one HTTP/2 connection of a client's; browsers take a hundred as usual."""
PROXY_CANCELLED_MAX: Final = 500
"""Requests that an HTTP/2 client may take back unanswered, when they are most of its requests: each costs an instance a
connection (CVE-2023-44487; Envoy ends a connection after as many)."""
PROXY_STREAM_WINDOW_SIZE: Final = 262_144
"""What a client may send of a body ahead of its instance; with all streams, 32 MiB of a connection at the very most."""
PROXY_ROUTES_MAX: Final = 10_000
"""In one file; finding one does not get slower with their number."""

# --- registering for others ------------------------------------------------------------------------------------------
AGENT_REASON_SIZE_MAX: Final = 256
"""Characters of a failed check's first line that become an instance's reason: it is read in tables."""
AGENT_CHECK_INTERVAL_MIN_MS: Final = 100
"""An agent looks at what runs beside it, which is cheaper than looking at other machines."""
AGENT_CHECK_TIMEOUT_MS: Final = 5_000
"""For one look, unless told otherwise or the interval is shorter."""
AGENT_FOLDER_INTERVAL_MS: Final = 2_000
"""How often service files are looked at; a look at a thousand files takes a few milliseconds."""
AGENT_FILES_COUNT_MAX: Final = 10_000
"""Service files in one directory."""
AGENT_FILE_SIZE_MAX: Final = 1_048_576
"""Of one service file; a hundred services with their checks are some 50 KB."""
AGENT_REMOVALS_FREE: Final = 3
"""So many files must vanish at once, and more than half, before that is taken for an accident."""
AGENT_DOCKER_TIMEOUT_MS: Final = 30_000
"""For one answer of Docker's, which has a container wait until it has been started; docker-py waits a minute."""
AGENT_DOCKER_LIST_MS: Final = 60_000
"""How often the whole list of containers is read although events came: an event may have been lost."""
AGENT_DOCKER_EVENT_SIZE_MAX: Final = 1_048_576
"""One event of Docker's with all labels of its container."""
AGENT_DOCKER_ANSWER_SIZE_MAX: Final = 67_108_864
"""A list of some ten thousand containers."""
AGENT_RETRY_MS: Final = 30_000
"""Before an agent asks again for what the registry has refused (a token, a limit): people must act first."""
AGENT_AUDIT_MS: Final = 30_000
"""How often an agent asks what hangs on its lease: nobody tells it of what others have taken over or removed. Consul's
agents do it every minute."""
AGENT_BACKOFF_MAX_MS: Final = 2_000
"""Between attempts to reach a registry that is away, with jitter: what starts meanwhile waits to be found."""
AGENT_LEAVE_MS: Final = 3_000
"""For an agent's goodbye to a registry that may be away; the lease ends it anyway, and a stop must not hang."""
AGENT_ALIVE_MS: Final = 1_000
"""A program without checks is registered when it has lived for so long (supervisord's startsecs)."""
AGENT_CHILD_STOP_MS: Final = 30_000
"""From the signal to a program that is stopped until it is killed, unless told otherwise; Kubernetes' grace period."""
AGENT_RESTART_MIN_MS: Final = 1_000
AGENT_RESTART_MAX_MS: Final = 60_000
"""Pauses before a program that failed is started again double from the one to the other."""
AGENT_RESTART_STEADY_MS: Final = 60_000
"""A program that ran for so long has started well: the next failure begins a new series of pauses."""

# --- SDK ---------------------------------------------------------------------------------------------------------------
CLIENT_ANSWER_SIZE_MAX: Final = 268_435_456
"""An answer the SDK reads whole; 100,000 instances are about 60 MB."""
CLIENT_BACKOFF_MIN_MS: Final = 100
CLIENT_BACKOFF_MAX_MS: Final = 10_000
"""Between attempts to reach the registry, with full jitter."""
CLIENT_EJECTION_MS: Final = 5_000
"""How long the SDK leaves out an instance that failed a call; doubles with each failure up to the maximum."""
CLIENT_EJECTION_MAX_MS: Final = 60_000
CLIENT_EJECTED_SHARE_MAX: Final = 0.5
"""Of the callable instances; one at least. Envoy stops at 10 %, gRPC's outlier detection too, Polaris at 50 %."""
CLIENT_EJECTIONS_REMEMBERED_MS: Final = 120_000
"""How long an instance that works again is still punished harder for its next failure."""
CLIENT_TIMEOUT_MS: Final = 10_000
"""Budget of one request to the registry, over all its URLs and attempts."""
CLIENT_RETRIES_DEFAULT: Final = 2
"""Further instances that a call tries; three in all, as with Finagle and Dubbo."""
CLIENT_CONNECTIONS_IDLE_MAX: Final = 32
"""Kept-alive connections per peer; more are closed when their request is done."""
CLIENT_IDLE_MS: Final = 55_000
"""A connection idle for longer is not used again: below the 60 s after which most servers and balancers close it."""
CLIENT_REUSE_UNSAFE_MS: Final = 1_000
"""What must not be sent twice takes a kept connection to an instance only when it was used within this, the gateway's
requests too: many servers close theirs after two to five seconds, and a request that meets the closing is lost."""
CLIENT_STREAM_SILENCE_MS: Final = 45_000
"""A stream on which nothing came for three heartbeats is dead (``STREAM_HEARTBEAT_MS``)."""
CLIENT_LOST_MS: Final = 30_000
"""Without the registry for longer than this, a mirror is LOST rather than SUSPENDED; twice the default TTL."""
CLIENT_UNCONFIRMED_MS: Final = 30_000
"""How long a mirror keeps what a registry that came back empty does not know yet; twice the default TTL."""
CLIENT_ACKNOWLEDGE_WAIT_MS: Final = 3_000
"""How long a consumer puts off acknowledging a drain for calls that have no answer yet: a connection whose first packet
was lost takes 1 s more, and one whose second was lost too 3 s. Whoever drains has 30 s."""
CLIENT_SNAPSHOT_INTERVAL_MS: Final = 1_000
"""Between two writes of one service's snapshot on disk."""
CLIENT_REBUILD_FREE_COUNT: Final = 500
"""Instances of a service up to which a consumer chooses anew at each change: it takes less than a millisecond."""
CLIENT_REBUILD_REST: Final = 10
"""For larger ones: so many times as long as choosing anew took it is not done again, so a flood of changes to a large
service costs a tenth of the event loop's time at most. Who must not be called is passed over at once."""
CLIENT_REPORT_INTERVAL_MS: Final = 1_000
"""Between two failure reports; what comes meanwhile is counted together."""
CLIENT_REPORTS_COUNT_MAX: Final = 1_000
"""Instances in one report; further ones wait for the next."""
CLIENT_FETCHES_MAX: Final = 16
"""Services whose first picture a mirror fetches at the same time."""
CLIENT_EWMA_MS: Final = 10_000
"""Time constant with which a consumer forgets that an instance was slow (Finagle's and Linkerd's decay time)."""
CLIENT_EWMA_FAILURE_MS: Final = 1_000
"""What a failed call counts as, beyond its duration, and a newcomer's first call while it runs (Finagle's penalty)."""
CLIENT_RING_POINTS: Final = 160
"""Points of an instance of mean weight on the ring, as with libketama; shares then differ by some 8 %."""
CLIENT_RING_POINTS_MAX: Final = 131_072
"""On one ring: sorting them takes some 30 ms. Beyond 819 instances each has fewer points."""
CLIENT_RING_LOAD_FACTOR: Final = 1.25
"""No instance gets more than this times its fair share of the running calls (HAProxy and Vimeo use 1.25)."""
CLIENT_ZONE_OVERPROVISION: Final = 1.4
"""A zone takes all calls while at least 1/1.4 of it is healthy (Envoy's overprovisioning factor)."""
CLIENT_WARM_UP_MAX_MS: Final = 3_600_000
"""A warm-up beyond this is taken for a mistake and ignored."""
CLIENT_WARM_UP_STEP_MS: Final = 1_000
"""How often weights are worked out anew while an instance warms up."""
CLIENT_RETRY_RATIO: Final = 0.2
"""Retries and hedges that each call earns: retries add at most a fifth to the load of a service that is ill (Finagle)."""
CLIENT_RETRY_MIN_PER_S: Final = 10
"""Retries a second that are allowed whatever the calls (Finagle), so that rare calls are repeated too."""
CLIENT_RETRY_SAVED_MAX: Final = 100
"""Retries that a consumer can save up for one service."""
CLIENT_DNS_INTERVAL_MS: Final = 10_000
"""Between two look-ups of a name that is a source of instances; resolvers on the way cache by TTL themselves."""
CLIENT_HEALTH_TIMEOUT_MS: Final = 5_000
"""A health callback that takes longer counts as a failure: callers would have given up on the service as well."""
CLIENT_LINGER_MS: Final = 250
"""Between everybody's knowing that a service drains and its refusing calls: those by a bare ``pick()`` may still come."""
CLIENT_METRICS_SERVICES_MAX: Final = 1_000
"""Services that a consumer's metrics tell apart; a collector pays for each of their twenty rows."""
CLIENT_LISTEN_PROBE_MS: Final = 1_000
"""One try to connect to our own socket; it lies on this machine."""
CLIENT_HEALTH_INTERVAL_MS: Final = 5_000
"""Between two questions to the application about its health, unless told otherwise."""
CLIENT_READY_TIMEOUT_MS: Final = 60_000
"""How long a start waits for the application to be healthy before it fails."""
CLIENT_ADDRESS_INTERVAL_MS: Final = 30_000
"""Between two looks whether the advertised address is still ours."""
CLIENT_INTERFACES_SIZE_MAX: Final = 1_048_576
"""Bytes of the document that says what a service offers; large OpenAPI documents have some 500 KB, a key 1.5 MiB."""
CLIENT_METHODS_COUNT_MAX: Final = 10_000
"""Methods in one document; GitHub's OpenAPI document has about 1,000 operations."""
CLIENT_METHOD_SIZE_MAX: Final = 1_024
"""Characters in the name of one method: a verb with a long path, or a service name with a method."""
CLIENT_INTERFACES_KEPT_MAX: Final = 256
"""Documents that a process keeps, and that it fetches at the same time; a service has two during a roll-out."""
CLIENT_INTERFACES_FETCHES_MAX: Final = 4
"""Documents under way at the same moment: they must not compete with calls."""
CLIENT_INTERFACES_HOLDERS_MAX: Final = 3
"""Instances that are asked for a document in one round, when the registry has none."""
CLIENT_INTERFACES_TTL_MS: Final = 3_600_000
"""A document stays in the registry for so long after its last provider has gone: time for consumers that come late."""
CLIENT_INTERFACES_FILES_MAX: Final = 1_024
"""Documents on disk, for all programs of a user; the least used half goes when there are more."""
CLIENT_INTERFACES_VIEWS_MAX: Final = 64
"""Different ``with_interface`` of one service in a process; each has a balancer of its own that is told of changes."""
CLIENT_WELL_KNOWN_HEAD_SIZE_MAX: Final = 8_192
"""A request to the listener for documents of interfaces, which has no use for long ones."""
CLIENT_WELL_KNOWN_CONNECTIONS_MAX: Final = 64
"""Connections to that listener at the same time; further ones are closed at once."""
CLIENT_WELL_KNOWN_TIMEOUT_MS: Final = 5_000
"""For one request to that listener."""
