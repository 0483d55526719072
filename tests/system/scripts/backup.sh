#!/bin/sh
# Back up the volumes of a container and bring them back elsewhere, as the manuals of Docker show
# it: --volumes-from, tar through pipes, cp in both directions, commit and save.
# Usage: backup.sh IMAGE FOLDER
set -eu
image=$1 folder=$2

cleanup() {
    docker rm -f -v -t 0 keeper reader copied >/dev/null 2>&1 || true
    docker volume rm vault vault2 >/dev/null 2>&1 || true
    docker rmi -f localhost/keeper:saved >/dev/null 2>&1 || true
}
trap cleanup EXIT
cleanup

docker create --name keeper -v vault:/vault -v /scratch -e OWNER=ada -w /vault "$image" \
    sh -c 'exec sleep 1000' >/dev/null
docker start keeper >/dev/null
docker exec -i keeper sh -c 'cat > letters' <<'END'
alpha
beta
END
docker exec -u 1000:1000 -w /tmp keeper sh -c 'id -u; pwd; touch mine; stat -c %u:%g mine'
docker exec -e MORE=yes keeper sh -c 'mkdir -p deep/er; echo "$OWNER $MORE" > deep/er/note; ln -s deep/er/note link'

docker run --rm --volumes-from keeper:ro "$image" tar cf - -C /vault . > "$folder/vault.tar"
echo "entries: $(tar tf "$folder/vault.tar" | sort | tr '\n' ' ')"
if docker run --rm --volumes-from keeper:ro "$image" touch /vault/no 2>/dev/null; then
    echo "written through a read-only mount"
else
    echo "read-only: yes"
fi

docker volume create vault2 >/dev/null
docker run --rm -i -v vault2:/to "$image" tar xf - -C /to < "$folder/vault.tar"
docker run --rm -v vault2:/from:ro "$image" sh -c 'cat /from/letters /from/link'

docker cp keeper:/vault/letters "$folder/letters"
echo gamma >> "$folder/letters"
docker cp "$folder/letters" keeper:/vault/letters
docker cp keeper:/vault/deep "$folder/deep"
echo "copied: $(docker exec keeper tail -n 1 letters) $(cat "$folder/deep/er/note")"
docker cp keeper:/vault/deep - | tar tf - | sed 's,/$,,' | sort | tr '\n' ' '
echo

docker exec keeper sh -c 'echo state > /kept'
docker commit -q -c 'ENV STAGE=saved' -c 'CMD ["cat", "/kept"]' keeper localhost/keeper:saved >/dev/null
docker save -o "$folder/keeper.tar" localhost/keeper:saved >/dev/null 2>&1
docker rmi localhost/keeper:saved >/dev/null
docker load -q -i "$folder/keeper.tar" | tail -n 1
echo "again: $(docker run --rm localhost/keeper:saved) $(docker run --rm localhost/keeper:saved sh -c 'echo $STAGE $OWNER')"
docker image inspect --format '{{json .Config.Cmd}} {{.Config.WorkingDir}}' localhost/keeper:saved
docker diff keeper | grep -c -E '^[AC] /(kept|tmp/mine)$'
docker export keeper | tar tf - | grep -c -x kept
docker rm -f -v -t 0 keeper >/dev/null
docker volume ls -q | grep -x -c -E 'vault2?'
