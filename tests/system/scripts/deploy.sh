#!/bin/sh
# Replace a web server by its next version without losing its data, as deployment scripts for
# Docker do: a private network, a health check, a switch of the published port, a way back.
# Usage: deploy.sh IMAGE
set -eu
image=$1
project=shop

cleanup() {
    docker rm -f -t 0 "$project-web" "$project-next" "$project-web-old" >/dev/null 2>&1 || true
    docker network rm "$project" >/dev/null 2>&1 || true
    docker volume rm "$project-data" >/dev/null 2>&1 || true
}
trap cleanup EXIT
cleanup

wait_healthy() { # CONTAINER
    tries=0
    until [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; do
        tries=$((tries + 1))
        [ $tries -le 60 ] || { echo "$1 is not healthy"; docker logs "$1"; return 1; }
        docker healthcheck run "$1" >/dev/null 2>&1 || true
        sleep 0.2
    done
}

start() { # NAME VERSION [OPTION...]
    name=$1 version=$2
    shift 2
    docker run -d --name "$name" --network "$project" --network-alias "web-$version" \
        --label "shop.version=$version" -e "VERSION=$version" -v "$project-data:/srv" \
        --restart unless-stopped --memory 64m --health-interval 1h \
        --health-cmd 'test -s /srv/index.html' "$@" "$image" \
        sh -c 'echo "version $VERSION" > /srv/index.html; exec httpd -f -p 8080 -h /srv' >/dev/null
}

docker network create --label shop=yes "$project" >/dev/null
docker volume create --label shop=yes "$project-data" >/dev/null
echo "network: $(docker network ls --filter label=shop=yes --format '{{.Name}}')"
echo "volume: $(docker volume ls -q --filter label=shop=yes)"

start "$project-web" 1 -p 127.0.0.1:18080:8080
wait_healthy "$project-web"
echo "first: $(wget -q -O - http://127.0.0.1:18080/)"
docker exec "$project-web" sh -c 'echo order-1 >> /srv/orders'

start "$project-next" 2
wait_healthy "$project-next"
echo "peer: $(docker exec "$project-web" wget -q -O - http://web-2:8080/)"
docker stop -t 1 "$project-web" >/dev/null
docker rename "$project-web" "$project-web-old"
docker rm -f -t 0 "$project-next" >/dev/null
start "$project-web" 2 -p 127.0.0.1:18080:8080
wait_healthy "$project-web"
echo "second: $(wget -q -O - http://127.0.0.1:18080/)"
echo "data: $(docker exec "$project-web" cat /srv/orders)"

for state in running exited; do
    echo "$state: $(docker ps -a --filter "name=$project-web" --filter "status=$state" --format '{{.Names}}')"
done
docker inspect --format \
    '{{.Name}} {{index .Config.Labels "shop.version"}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{range .Mounts}}{{.Destination}}{{end}}' \
    "$project-web" | sed 's,^/,,'
docker inspect --format '{{range $port, $binding := .NetworkSettings.Ports}}{{$port}} {{(index $binding 0).HostPort}}{{end}}' \
    "$project-web"
docker port "$project-web" 8080/tcp
echo "old logs: $(docker logs "$project-web-old" 2>&1 | wc -l)"
docker rm "$project-web-old" | sed 's/^/removed: /'
echo "left: $(docker ps -q --filter label=shop.version | wc -l)"
