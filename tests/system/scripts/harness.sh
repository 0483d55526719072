#!/bin/bash
# A test harness as projects keep it in their repositories: services in the background, waiting
# for them, cases against them, their logs when one fails, nothing left behind.
# Usage: harness.sh IMAGE
# shellcheck disable=SC2016
set -euo pipefail
image=$1
run_id=suite-$$
passed=0 failed=0

finish() {
    podman ps -aq --filter "label=suite=$run_id" | xargs -r podman rm -f >/dev/null
    podman network rm -f "$run_id" >/dev/null 2>&1 || true
}
trap finish EXIT

service() { # NAME COMMAND...
    local name=$1
    shift
    podman run -d --name "$run_id-$name" --hostname "$name" --network "$run_id:alias=$name" \
        --label "suite=$run_id" --label "role=$name" --stop-timeout 1 "$image" "$@" >/dev/null
}

check() { # NAME EXPECTED COMMAND...
    local name=$1 expected=$2 found
    shift 2
    found=$("$@" 2>&1) || true
    if [ "$found" = "$expected" ]; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "not ok $name: expected '$expected', found '$found'"
    fi
}

code() { # COMMAND...
    "$@" >/dev/null 2>&1 && echo 0 || echo $?
}

podman network create "$run_id" >/dev/null
service store sh -c 'mkdir /w; echo ready; echo hello > /w/greeting; exec httpd -f -p 80 -h /w'
service worker sh -c 'trap "echo bye; exit 3" TERM; echo working; echo trouble >&2; while :; do sleep 0.1; done'
for name in store worker; do
    until podman logs "$run_id-$name" 2>&1 | grep -q -E 'ready|working'; do sleep 0.1; done
done

check "names are known" hello podman run --rm --network "$run_id" "$image" wget -q -O - http://store/greeting
check "hostname" worker podman exec "$run_id-worker" hostname
check "exit code of a command" 7 code podman run --rm "$image" sh -c 'exit 7'
check "command not found" 127 code podman run --rm "$image" no-such-program
check "command not executable" 126 code podman run --rm "$image" /etc
check "unknown option" 125 code podman run --no-such-option "$image"
check "exists" 0 code podman container exists "$run_id-store"
check "exists not" 1 code podman container exists "$run_id-nothing"
check "remove what is not there" 1 code podman rm "$run_id-nothing"
check "remove what runs" 2 code podman rm "$run_id-store"
check "both streams" $'working\ntrouble' bash -c "podman logs $run_id-worker 2>&1 | sort -r"
check "only errors" trouble bash -c "podman logs $run_id-worker 2>&1 >/dev/null"
check "running" $'store\nworker' bash -c "podman ps --filter label=suite=$run_id --format '{{.Labels.role}}' | sort"
check "count" 2 bash -c "podman ps -q --filter label=suite=$run_id | wc -l"
check "stdin" 'upper' bash -c "echo upper | podman run --rm -i $image cat"
check "environment file" 'a b' bash -c "podman run --rm --env-file <(echo 'X=a b') $image sh -c 'echo \$X'"
check "tmpfs" tmpfs podman run --rm --tmpfs /scratch:size=1m "$image" sh -c "grep ' /scratch ' /proc/mounts | cut -d' ' -f3"
check "read-only root" 1 code podman run --rm --read-only "$image" touch /file
check "user" 1234 podman run --rm --user 1234 "$image" id -u
check "no capabilities" 0000000000000000 podman run --rm --cap-drop all "$image" sh -c 'grep CapEff /proc/1/status | cut -f2'
check "pause" paused bash -c "podman pause $run_id-worker >/dev/null; podman inspect -f '{{.State.Status}}' $run_id-worker; podman unpause $run_id-worker >/dev/null"
check "top" worker-shell bash -c "podman top $run_id-worker args | grep -q sleep && echo worker-shell"
podman stop "$run_id-worker" >/dev/null
check "signal handled" 3 podman wait "$run_id-worker"
check "state" 'exited 3 false' podman inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}' "$run_id-worker"
check "last words" bye bash -c "podman logs --tail 1 $run_id-worker"
check "restart" running bash -c "podman restart $run_id-worker >/dev/null; podman inspect -f '{{.State.Status}}' $run_id-worker"
check "kill" 137 bash -c "podman kill $run_id-worker >/dev/null; podman wait $run_id-worker"
check "json" "$run_id-store" bash -c "podman ps --filter label=role=store --filter label=suite=$run_id --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0][\"Names\"][0])'"
check "table" 'NAMES STATUS' bash -c "podman ps --filter label=suite=$run_id --format 'table {{.Names}} {{.Status}}' | head -1 | tr -s ' ' | sed 's/ \$//'"
check "templates" "STORE:1" podman inspect --format '{{$r := index .Config.Labels "role"}}{{upper $r}}:{{if .State.Running}}1{{else}}0{{end}}' "$run_id-store"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
