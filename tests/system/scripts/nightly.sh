#!/bin/bash
# The nightly job of a host with containers, as people keep it in cron: an inventory, backups of all
# volumes with tar, restarts of what is not healthy, logs of what failed, a clean-up of what is left.
# Usage: nightly.sh IMAGE FOLDER
# shellcheck disable=SC2016,SC2046
set -euo pipefail
image=$1 backups=$2
label=nightly=yes

cleanup() {
    docker ps -aq --filter "label=$label" | xargs -r docker rm -f -v >/dev/null
    docker volume ls -q --filter "label=$label" | xargs -r docker volume rm >/dev/null
}
trap cleanup EXIT
cleanup

for name in app data; do docker volume create --label "$label" "night-$name" >/dev/null; done
docker run -d --name night-app --label "$label" --label team=web -v night-app:/app -e MODE=live --restart on-failure:3 \
    --network none --stop-timeout 1 --health-cmd 'test ! -e /app/sick' --health-interval 1h --health-retries 1 "$image" \
    sh -c 'echo started; echo hello > /app/index; exec sleep 1000' >/dev/null
docker run -d --name night-db --label "$label" --label team=db -v night-data:/var/lib/db -v /anonymous --network none \
    --stop-timeout 1 "$image" sh -c 'mkdir -p /var/lib/db/base; echo row > /var/lib/db/base/t1; exec sleep 1000' >/dev/null
docker run --name night-failed --label "$label" --network none "$image" sh -c 'echo working; echo "no disk" >&2; exit 7' >/dev/null 2>&1 || true
docker create --name night-idle --label "$label" --network none "$image" true >/dev/null
until docker exec night-db test -s /var/lib/db/base/t1 && docker exec night-app test -s /app/index; do sleep 0.1; done

echo "== inventory"
docker ps -a --filter "label=$label" --format '{{.Names}};{{.State}};{{.Label "team"}}' | sort
docker ps -a --filter "label=$label" --format '{{json .}}' | while read -r row; do
    # One object on each line, whatever else is in it.
    python3 -c 'import json, sys; row = json.loads(sys.argv[1]); print("row", type(row).__name__)' "$row"
done | sort | uniq -c | tr -s ' '
docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' night-app | grep ^MODE=
docker inspect --format '{{.Name}}: {{range .Mounts}}{{if eq .Type "volume"}}{{.Destination}} {{end}}{{end}}' night-app night-db | sed 's,^/,,'
docker inspect --format '{{with .HostConfig.RestartPolicy}}{{.Name}}:{{.MaximumRetryCount}}{{end}} {{printf "%.3s" .Config.Image}}' night-app
docker inspect --format '{{if gt .State.ExitCode 0}}failed with {{.State.ExitCode}}{{end}}' night-failed
docker inspect --format '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}' night-app
docker inspect --format '{{join .Config.Cmd " "}}' night-idle

echo "== backup"
for volume in $(docker volume ls -q --filter "label=$label" | sort); do
    docker run --rm --network none -v "$volume:/from:ro" -v "$backups:/to" "$image" tar cf "/to/$volume.tar" -C /from .
    echo "$volume: $(tar tf "$backups/$volume.tar" | sed 's,/$,,' | sort | tr '\n' ' ')"
done
docker exec night-db rm -r /var/lib/db/base
docker run --rm --network none --volumes-from night-db -v "$backups:/from:ro" "$image" tar xf /from/night-data.tar -C /var/lib/db
docker exec night-db cat /var/lib/db/base/t1

echo "== health"
docker healthcheck run night-app && echo healthy
docker exec night-app touch /app/sick
docker healthcheck run night-app || echo "code $?"
docker inspect --format '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' night-app
docker ps -q --filter health=unhealthy --filter "label=$label" --no-trunc | xargs -r docker restart -t 0 | wc -l
docker exec night-app rm /app/sick
tries=0
until docker healthcheck run night-app >/dev/null 2>&1; do
    tries=$((tries + 1)); [ "$tries" -lt 50 ] || exit 1
    sleep 0.1
done
docker inspect --format '{{.State.Health.Status}}' night-app

echo "== failures"
docker ps -a --filter status=exited --filter "label=$label" --format '{{.Names}}' | while read -r name; do
    code=$(docker wait "$name")
    [ "$code" = 0 ] || { echo "$name: $code"; docker logs --tail 1 "$name" 2>&1 >/dev/null | sed 's/^/  /'; }
done

echo "== clean-up"
docker rm night-idle no-such-container >/dev/null 2>&1 || echo "code $?"
docker container inspect night-idle >/dev/null 2>&1 && echo "still there"
printf 'n\n' | docker container prune --filter "label=$label" >/dev/null 2>&1 && echo "asked, and kept"
docker ps -aq --filter "label=$label" | wc -l
printf 'y\n' | docker container prune --filter "label=$label" 2>/dev/null | grep -o -E '[0-9a-f]{64}' | wc -l
docker stop -t 0 $(docker ps -q --filter "label=$label") | wc -l
docker rmi "$image" >/dev/null 2>&1 || echo "image in use: $?"
docker volume rm night-data >/dev/null 2>&1 || echo "volume in use: $?"
docker ps -aq --filter "label=$label" | xargs docker rm -v | wc -l
docker volume ls -q --filter "label=$label" | xargs docker volume rm | sort | tr '\n' ' '
echo
docker ps -aq --filter "label=$label" | wc -l
