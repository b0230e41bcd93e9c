#!/bin/sh
# What operators type: etcdctl of one version ($ETCDCTL_VERSION) against the server at $TOWNHALL_ETCD. Prints TAP.
set -u
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
count=0
tool="$ETCDCTL"
ctl() { timeout 30 "$tool" --endpoints "$TOWNHALL_ETCD" --command-timeout 20s "$@" 2>&1; }
# In the background the tool takes the place of the subshell, so that a signal reaches it.
stay() { exec timeout 60 "$tool" --endpoints "$TOWNHALL_ETCD" "$@" 2>&1; }
end() { kill "$@" 2>/dev/null; wait "$@" 2>/dev/null; }
check() { # description, expected text, actual text
  count=$((count + 1))
  case "$3" in
    *"$2"*) echo "ok $count - $1" ;;
    *) echo "not ok $count - $1: wanted '$2' in: $3" | tr '\n' ' '; echo ;;
  esac
}
lacks() { # description, text that must not occur, actual text
  count=$((count + 1))
  case "$3" in
    *"$2"*) echo "not ok $count - $1: '$2' in: $3" | tr '\n' ' '; echo ;;
    *) echo "ok $count - $1" ;;
  esac
}
until_file() { # file, text: waits until it is there
  for _ in $(seq 200); do grep -q -- "$2" "$1" 2>/dev/null && return; sleep 0.1; done
}

check "put" "OK" "$(ctl put k/a 1)"
check "get" "k/a
1" "$(ctl get k/a)"
ctl put k/b 2 >/dev/null; ctl put k/c 3 >/dev/null
check "get --prefix --keys-only" "k/a

k/b

k/c" "$(ctl get --prefix --keys-only k/)"
check "get --order --sort-by --limit" "k/c
3" "$(ctl get --prefix k/ --order DESCEND --sort-by VALUE --limit 1)"
check "get --from-key" '"Count" : 2' "$(ctl get --from-key k/b -w fields)"
check "get -w json" '"count":1' "$(ctl get k/a -w json)"
check "get --print-value-only --consistency s" "1" "$(ctl get k/a --print-value-only --consistency s)"
first=$(ctl put k/a 10 -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
check "get --rev" "1" "$(ctl get k/a --print-value-only --rev $((first - 1)))"
check "put --prev-kv" "10" "$(ctl put --prev-kv k/a 11)"
check "put --ignore-value of nothing" "key not found" "$(ctl put --ignore-value k/none)"
check "put with an unknown lease" "requested lease not found" "$(ctl put --lease 1234abcd k/x 1)"
check "txn, success" "SUCCESS" "$(printf 'value("k/a") = "11"\n\nput k/t yes\nget k/t\n\nput k/t no\n\n' | ctl txn)"
check "txn, failure" "FAILURE" "$(printf 'mod("k/a") < "1"\n\nput k/t yes\n\nget k/t\n\n' | ctl txn)"
check "del --prev-kv" "k/t
yes" "$(ctl del --prev-kv k/t)"
check "del --prefix" "3" "$(ctl del --prefix k/)"

stay watch --prefix w/ >"$place/watch" & watcher=$!
stay watch --prefix w/ -- sh -c 'echo "ran $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY"' >"$place/exec" & runner=$!
for _ in $(seq 100); do
  ctl put w/ready 1 >/dev/null
  grep -q w/ready "$place/watch" && grep -q w/ready "$place/exec" && break
  sleep 0.2
done
revision=$(ctl put w/one first -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
ctl del w/one >/dev/null
until_file "$place/watch" DELETE; until_file "$place/exec" DELETE
check "watch sees a put and a delete" "PUT
w/one
first
DELETE
w/one" "$(cat "$place/watch")"
check "watch runs a command" 'ran "DELETE" "w/one"' "$(cat "$place/exec")"
end $watcher $runner
stay watch w/one --rev "$revision" --prev-kv >"$place/past" & watcher=$!
until_file "$place/past" DELETE
check "watch from a revision in the past, with previous values" "PUT
w/one
first
DELETE
w/one
first
w/one" "$(cat "$place/past")"
end $watcher

lease=$(ctl lease grant 100 | sed 's/lease \([0-9a-f]*\) .*/\1/')
check "put --lease" "OK" "$(ctl put --lease "$lease" l/a 1)"
check "lease timetolive --keys" "attached keys([l/a])" "$(ctl lease timetolive --keys "$lease")"
check "lease list" "$lease" "$(ctl lease list)"
check "lease keep-alive --once" "keepalived with TTL(100)" "$(ctl lease keep-alive --once "$lease")"
check "lease revoke" "revoked" "$(ctl lease revoke "$lease")"
check "its key is gone" '"Count" : 0' "$(ctl get l/a -w fields)"
check "timetolive of a dead lease" "already expired" "$(ctl lease timetolive "$lease")"
check "lease revoke, again" "requested lease not found" "$(ctl lease revoke "$lease")"
check "keep-alive of a dead lease" "requested lease not found" "$(ctl lease keep-alive --once "$lease")"

check "lock runs a command while it holds" "held locks/one" "$(ctl lock locks/one -- sh -c 'echo "held $ETCD_LOCK_KEY"')"
stay lock locks/two >"$place/lock" & holder=$!
until_file "$place/lock" locks/two
stay lock locks/two echo second >"$place/second" & waiter=$!
sleep 1
lacks "a second lock waits" "second" "$(cat "$place/second")"
end $holder; until_file "$place/second" second
check "until the first is let go" "second" "$(cat "$place/second")"
wait $waiter 2>/dev/null
stay elect leaders one >"$place/elect" & leader=$!
until_file "$place/elect" one
stay elect --listen leaders >"$place/listen" & listener=$!
until_file "$place/listen" one
check "elect --listen hears the leader" "one" "$(cat "$place/listen")"
end $leader $listener

check "member list" "started" "$(ctl member list)"
check "endpoint health" "is healthy" "$(ctl endpoint health)"
check "endpoint status" "$TOWNHALL_ETCD" "$(ctl endpoint status -w json)"
check "endpoint status --cluster" '"leader"' "$(ctl endpoint status --cluster -w json)"
check "endpoint hashkv" "$TOWNHALL_ETCD" "$(ctl endpoint hashkv)"
check "alarm list" "" "$(ctl alarm list)"
check "alarm disarm" "" "$(ctl alarm disarm)"
check "defrag" "Finished defragmenting" "$(ctl defrag)"
for i in 1 2 3; do ctl put snap/$i v$i >/dev/null; done
check "snapshot save" "napshot saved at" "$(ctl snapshot save "$place/snapshot")"
now=$(ctl get snap/1 -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
check "compaction" "compacted revision $now" "$(ctl compaction "$now")"
check "compaction, again" "required revision has been compacted" "$(ctl compaction "$now")"
check "get at a compacted revision" "required revision has been compacted" "$(ctl get snap/1 --rev $((now - 1)))"
check "move-leader to an unknown member" "rror" "$(ctl move-leader 1234)"
stay make-mirror --prefix snap/ --dest-prefix copy/ "$TOWNHALL_ETCD" >"$place/mirror" 2>&1 & mirror=$!
for _ in $(seq 100); do
  case "$(ctl get copy/3)" in *v3*) break ;; esac
  sleep 0.2
done
ctl put snap/4 v4 >/dev/null
for _ in $(seq 100); do
  case "$(ctl get copy/4)" in *v4*) break ;; esac
  sleep 0.2
done
check "make-mirror copies what is there and what comes" "copy/1
v1
copy/2
v2
copy/3
v3
copy/4
v4" "$(ctl get --prefix copy/)"
end $mirror

check "auth enable without a root user" "root user" "$(ctl auth enable)"
check "user add root" "User root created" "$(ctl user add root:secret)"
check "role add root" "Role root created" "$(ctl role add root)"
check "user grant-role" "is granted" "$(ctl user grant-role root root)"
check "role add" "Role reader created" "$(ctl role add reader)"
check "role grant-permission --prefix" "Role reader updated" "$(ctl role grant-permission --prefix reader read r/)"
check "role get" "[r/, r0) (prefix r/)" "$(ctl role get reader)"
check "user add" "User ann created" "$(ctl user add ann:pw)"
check "user grant-role of an unknown role" "role name not found" "$(ctl user grant-role ann nobody)"
check "user grant-role to ann" "granted to user ann" "$(ctl user grant-role ann reader)"
check "user get" "Roles: reader" "$(ctl user get ann)"
check "user list" "ann
root" "$(ctl user list)"
check "role list" "reader
root" "$(ctl role list)"
check "auth enable" "Authentication Enabled" "$(ctl auth enable)"
check "without a user" "user name is empty" "$(ctl put r/a 1)"
check "a wrong password" "invalid user ID or password" "$(ctl --user root:wrong put r/a 1)"
check "root may" "OK" "$(ctl --user root:secret put r/a 1)"
check "a reader reads" "r/a
1" "$(ctl --user ann:pw get r/a)"
check "a reader may not write" "permission denied" "$(ctl --user ann:pw put r/a 2)"
check "nor read elsewhere" "permission denied" "$(ctl --user ann:pw get s/a)"
check "role revoke-permission" "revoked" "$(ctl --user root:secret role revoke-permission --prefix reader r/)"
check "then a reader may not" "permission denied" "$(ctl --user ann:pw get r/a)"
check "user passwd" "Password updated" "$(printf 'other' | ctl --user root:secret user passwd --interactive=false ann)"
check "the old password is refused" "invalid user ID or password" "$(ctl --user ann:pw get r/a)"
check "user revoke-role" "revoked from user ann" "$(ctl --user root:secret user revoke-role ann reader)"
check "user delete" "User ann deleted" "$(ctl --user root:secret user delete ann)"
check "role delete" "Role reader deleted" "$(ctl --user root:secret role delete reader)"
check "auth disable by nobody" "user name is empty" "$(ctl auth disable)"
check "auth disable" "Authentication Disabled" "$(ctl --user root:secret auth disable)"
check "and all may again" "OK" "$(ctl put r/a 3)"
echo "1..$count"
