#!/bin/bash
# A pipeline of a build server: what it runs on, a stage that prepares an image, stages in parallel with
# their exit codes, reports and artefacts, a secret, a blue and a green instance, and nothing left.
# Usage: pipeline.sh IMAGE FOLDER
# shellcheck disable=SC2016,SC2032,SC2033
set -euo pipefail
image=$1 work=$2
job=job-$$
podman() { command podman --log-level=error "$@"; }

finish() {
    podman ps -a --filter "label=job=$job" --format '{{.ID}}' | xargs -r podman rm -f -t 0 >/dev/null
    podman images --filter "label=job=$job" --format '{{.ID}}' | sort -u | xargs -r podman rmi -f >/dev/null
    podman volume ls -q | grep "^$job-" | xargs -r podman volume rm -f >/dev/null || true
    podman secret rm "$job-token" >/dev/null 2>&1 || true
}
trap finish EXIT

stage() { # NAME COMMAND
    podman run --rm --name "$job-$1" --label "job=$job" --network none --pull=never --memory 64m --pids-limit 100 \
        -v "$job-cache:/cache" -v "$work/src:/src:ro,z" -w /src -e "CI=true" --env-file "$work/env" \
        --secret "$job-token,type=env,target=TOKEN" "$job:ready" sh -c "$2"
}

echo "== host"
podman info --format '{{.Host.OS}} {{.Host.Security.Rootless}} {{len .Plugins.Volume}}'
podman version --format '{{if .Client.Version}}known{{end}}'
[ "$(podman info --format '{{.Host.Arch}}')" = "$(podman image inspect --format '{{.Architecture}}' "$image")" ] && echo "same platform"

echo "== prepare"
mkdir -p "$work/src" "$work/out"
printf '#!/bin/sh\nset -e\ntest "$CI" = true\ntest -n "$GREETING"\necho "unit: $GREETING"\n' > "$work/src/test.sh"
printf '# variables\nGREETING=hello world\n\nEMPTY=\n' > "$work/env"
printf 's3cret' | podman secret create "$job-token" - >/dev/null
rm -f "$work/cid"
podman create --cidfile "$work/cid" --label "job=$job" --network none "$image" sh -c 'mkdir -p /opt/tool && cp /tmp/tool /opt/tool/run && chmod 755 /opt/tool/run' >/dev/null
printf '#!/bin/sh\necho "tool $1"\n' > "$work/tool"
podman cp "$work/tool" "$(cat "$work/cid"):/tmp/tool"
podman start -a "$(cat "$work/cid")"
podman commit -q -c "LABEL job=$job" -c 'ENV PATH=/opt/tool:/bin:/usr/bin' -c 'ENTRYPOINT []' -c 'WORKDIR /src' "$(cat "$work/cid")" "$job:ready" >/dev/null
podman image inspect --format '{{.Config.WorkingDir}} {{index .Config.Labels "job" | printf "%.4s"}} {{len .RootFS.Layers}}' "$job:ready"
podman diff --format json "$(cat "$work/cid")" | python3 -c 'import json, sys; print("changed:", "/opt/tool/run" in json.load(sys.stdin)["added"])'

echo "== stages"
stage unit 'sh test.sh && echo built > /cache/artefact'
stage lint 'exit 3' || echo "lint: $?"
stage tool 'run $GREETING; printf %s "$TOKEN" | wc -c; echo "[$EMPTY]"'
stage readonly 'touch /src/x 2>/dev/null || echo "sources are kept"'
stage missing 'no-such-tool' 2>/dev/null || echo "missing: $?"
podman run --rm --network none "$job:ready" no-such-tool 2>/dev/null || echo "not found: $?"
podman run --rm --network none --no-such-flag "$job:ready" true 2>/dev/null || echo "usage: $?"

echo "== parallel"
for number in 1 2 3; do
    podman run -d --name "$job-p$number" --label "job=$job" --network none "$job:ready" sh -c "sleep 0.$number; exit $number" >/dev/null
done
podman wait "$job-p1" "$job-p2" "$job-p3" | tr '\n' ' '
echo
podman ps -a --filter "name=$job-p" --filter status=exited --sort names --format '{{.Names}} {{.ExitCode}}' | sed "s/$job-//"
podman ps -a --filter "name=$job-p" --filter exited=2 --format '{{.Names}}' | sed "s/$job-//"
podman inspect --format '{{.State.ExitCode}}' "$job-p1" "$job-p2" "$job-p3" | paste -s -d+ | sed 's/.*/$((&))/' | { read -r sum; eval "echo sum $sum"; }
podman rm "$job-p1" "$job-p2" "$job-p3" | wc -l

echo "== artefacts"
podman volume export "$job-cache" | tar xf - -C "$work/out" ./artefact 2>/dev/null || podman volume export "$job-cache" | tar xf - -C "$work/out" artefact
cat "$work/out/artefact"
podman save -q "$job:ready" -o "$work/ready.tar" 2>/dev/null && tar tf "$work/ready.tar" | grep -c '^manifest.json$'
podman rmi -f "$job:ready" >/dev/null
podman image exists "$job:ready" || echo "gone: $?"
podman load -q -i "$work/ready.tar" | sed "s/$job/JOB/"
podman run --rm --network none "$job:ready" run again

echo "== blue and green"
start() { podman run -d --replace --name "$job-$1" --label "job=$job" --network none --stop-signal KILL "$job:ready" sh -c "echo $1 is up; sleep 1000" >/dev/null; }
start blue
until podman logs "$job-blue" | grep -q up; do sleep 0.1; done
start green
until [ "$(podman logs --tail 1 "$job-green")" = "green is up" ]; do sleep 0.1; done
podman exec "$job-green" run checks
podman stop -t 0 "$job-blue" >/dev/null && podman rename "$job-blue" "$job-old"
podman ps --filter "label=job=$job" --format '{{.Names}}' | sed "s/$job-//"
podman ps -a --filter "label=job=$job" --filter status=exited -q | xargs podman inspect --format '{{.Name}} {{.State.ExitCode}}' | grep -- -old | sed "s/$job-//"
podman container exists "$job-blue" || echo "renamed: $?"
start green
podman ps -aq --filter "name=$job-green" | wc -l
podman kill "$job-green" >/dev/null
podman wait "$job-green"
podman rm -f "$job-green" "$job-old" "$job-blue" >/dev/null && echo removed
