#!/bin/sh
# The native protocol by hand: what somebody without any SDK would type.
set -u
api="$TOWNHALL_URL/api/v1"
count=0
check() { # description, expected text, actual text
  count=$((count + 1))
  case "$3" in
    *"$2"*) echo "ok $count - $1" ;;
    *) echo "not ok $count - $1: wanted '$2' in: $3" ;;
  esac
}
json='Content-Type: application/json'

answer=$(curl -sS -X POST "$api/instances" -H "$json" \
  -d '{"service":"curl-web","id":"one","address":"127.9.0.1","port":8080,"tags":["v1"],"ttl_ms":60000}')
check "register" '"lease":"' "$answer"
lease=$(printf '%s' "$answer" | sed 's/.*"lease":"\([0-9]*\)".*/\1/')
check "the same again is the same instance" '"incarnation"' "$(curl -sS -X POST "$api/instances" -H "$json" \
  -d '{"service":"curl-web","id":"one","address":"127.9.0.1","port":8080,"tags":["v1"],"lease":"'"$lease"'"}')"
check "list" '"verdict":"up"' "$(curl -sS "$api/services/curl-web/instances?healthy=1")"
etag=$(curl -sS -D - -o /dev/null "$api/services/curl-web/instances" | tr -d '\r' | sed -n 's/^[Ee][Tt][Aa][Gg]: //p')
check "unchanged since" '304' "$(curl -sS -o /dev/null -w '%{http_code}' -H "If-None-Match: $etag" "$api/services/curl-web/instances")"
check "renew" "\"lease\":\"$lease\"" "$(curl -sS -X PUT "$api/leases/$lease")"
check "renew many names the unknown" '"unknown":["1"]' "$(curl -sS -X POST "$api/renew" -H "$json" -d '{"leases":["'"$lease"'","1"]}')"
check "wrong port is named" '"field":"port"' "$(curl -sS -X POST "$api/instances" -H "$json" \
  -d '{"service":"curl-web","address":"127.9.0.1","port":99999}')"
(sleep 1; curl -sS -o /dev/null -X PATCH "$api/services/curl-web/instances/one" -H "$json" -d '{"weight":5}') &
check "a watcher is told" '"weight":5' "$(curl -sS -N -m 3 "$api/watch?service=curl-web" 2>/dev/null)"
wait
check "put a key" '"revision"' "$(curl -sS -X PUT --data-binary 'hello' "$api/kv/curl/a")"
check "read it raw" 'hello' "$(curl -sS "$api/kv/curl/a?raw")"
check "compare and set refuses" '"code":"conflict"' "$(curl -sS -X PUT --data-binary 'x' "$api/kv/curl/a?cas=1")"
check "deregister" '204' "$(curl -sS -o /dev/null -w '%{http_code}' -X DELETE "$api/services/curl-web/instances/one")"
check "gone" '"instances":[]' "$(curl -sS "$api/services/curl-web/instances")"
check "compressed when asked" 'townhall_' "$(curl -sS --compressed "$TOWNHALL_URL/metrics")"
