"""Images: pulled, loaded, saved, imported, named, shown and removed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers.registry import PASSWORD, USER, RegistryServer, digest_of, make_tar
from helpers.store import BUSYBOX, TOP, Store, get_busybox_tar, make_busybox_tar, wait_until

pytestmark = pytest.mark.btrfs

LAYERS = [make_busybox_tar(), make_tar({"app/": b"", "app/a": b"one"}), make_tar({"app/b": b"2"})]
CONFIG: dict[str, Any] = {
    "Cmd": ["cat", "/app/a"], "Env": ["FROM=image"], "Labels": {"a": "b"}, "WorkingDir": "/app",
}  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


def names(store: Store) -> list[str]:
    rows = store.ok("images", "--format", "json").json
    return sorted(name for row in rows for name in row["Names"] or [])


def image_files(store: Store, image_id: str) -> tuple[bytes, bytes]:
    """Manifest and configuration as they are stored."""
    folder = f"{store.engine().images_folder}/{image_id}"
    return Path(folder, "manifest.json").read_bytes(), Path(folder, "config.json").read_bytes()


# -- pull ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_a_pulled_image_runs_and_keeps_its_bytes(
    busybox_store: Store, registry: RegistryServer, compression: str
) -> None:
    pushed = registry.push_image("app", compression, LAYERS, CONFIG, compression=compression)
    name = f"{registry.address}/app:{compression}"
    assert busybox_store.ok("pull", "-q", name).line == pushed.id
    assert image_files(busybox_store, pushed.id) == (pushed.manifest, pushed.config)
    assert busybox_store.ok("run", "--rm", name).out == "one"
    out = busybox_store.ok("run", "--rm", "--pull", "never", name, "sh", "-c", "echo $FROM; pwd")
    assert out.out.split() == ["image", "/app"]
    [found] = busybox_store.ok("image", "inspect", name).json
    assert found["RepoDigests"] == [f"{registry.address}/app@{pushed.digest}"]
    assert found["RootFS"]["Layers"] == [digest_of(layer) for layer in LAYERS]
    busybox_store.ok("rmi", name)


def test_layers_are_shared_and_pulled_once(busybox_store: Store, registry: RegistryServer) -> None:
    fresh = [*LAYERS, make_tar({"new": os.urandom(20)}), make_tar({"newer": os.urandom(20)})]
    registry.push_image("app", "base", fresh[:4], CONFIG)
    registry.push_image("app", "more", fresh, CONFIG)

    def layers() -> set[str]:
        return {record["id"] for record in busybox_store.engine().records.list_records("layer")}

    busybox_store.ok("pull", "-q", f"{registry.address}/app:base")
    before = layers()
    busybox_store.ok("pull", "-q", f"{registry.address}/app:more")
    assert len(layers() - before) == 1
    busybox_store.ok("rmi", f"{registry.address}/app:base")
    assert busybox_store.ok("run", "--rm", f"{registry.address}/app:more").out == "one"
    busybox_store.ok("rmi", f"{registry.address}/app:more")


def test_the_platform_is_chosen(busybox_store: Store, registry: RegistryServer) -> None:
    here = registry.push_image("multi", "amd", LAYERS, CONFIG)
    there = registry.push_image("multi", "arm", LAYERS[:2], CONFIG, architecture="arm64")
    registry.push_index("multi", "all", {"linux/amd64": here, "linux/arm64/v8": there})
    name = f"{registry.address}/multi:all"
    assert busybox_store.ok("pull", "-q", "--platform", "linux/amd64", name).line == here.id
    assert busybox_store.ok("pull", "-q", "--platform", "linux/arm64", name).line == there.id
    assert busybox_store.strata("pull", "-q", "--platform", "linux/s390x", name).rc == 125
    busybox_store.ok("rmi", "-f", here.id, there.id)


def test_run_pulls_what_is_missing_and_only_then(
    busybox_store: Store, registry: RegistryServer
) -> None:
    name = f"{registry.address}/app:missing"
    assert busybox_store.strata("run", "--rm", name).rc == 125
    first = registry.push_image("app", "missing", LAYERS, CONFIG)
    assert busybox_store.strata("run", "--rm", "--pull", "never", name).rc == 125
    assert busybox_store.ok("run", "--rm", name).out == "one"
    second = registry.push_image("app", "missing", [*LAYERS, make_tar({"app/a": b"new"})], CONFIG)
    assert busybox_store.ok("run", "--rm", name).out == "one"
    assert busybox_store.ok("run", "--rm", "--pull", "newer", name).out == "new"
    assert busybox_store.ok("image", "inspect", "--format", "{{.Id}}", name).line == second.id
    busybox_store.ok("rmi", "-f", first.id, second.id)


def test_credentials_come_from_the_authfile(busybox_store: Store, tmp_path: Path) -> None:
    import base64

    with RegistryServer(htpasswd=True) as server:
        pushed = server.push_image("app", "1", LAYERS[1:], CONFIG)
        name = f"{server.address}/app:1"
        outcome = busybox_store.strata("pull", "-q", name)
        assert outcome.rc == 125
        assert "auth" in outcome.err.lower()
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authfile = tmp_path / "auth.json"
        authfile.write_text(json.dumps({"auths": {server.address: {"auth": pair}}}))
        assert busybox_store.ok("pull", "-q", "--authfile", str(authfile), name).line == pushed.id
        busybox_store.ok("rmi", name)


def test_two_pulls_of_one_image_at_once(busybox_store: Store, registry: RegistryServer) -> None:
    pushed = registry.push_image("app", "twice", [*LAYERS, make_tar({"x": os.urandom(100_000)})])
    name = f"{registry.address}/app:twice"
    pulls = [busybox_store.start("pull", "-q", name, stdout=subprocess.PIPE) for _ in range(3)]
    for pull in pulls:
        out, _ = pull.communicate(timeout=60)
        assert pull.returncode == 0
        assert out.decode().strip() == pushed.id
    busybox_store.ok("rmi", name)


def test_progress_is_quiet_in_a_pipe(busybox_store: Store, registry: RegistryServer) -> None:
    registry.push_image("app", "quiet", LAYERS[1:], CONFIG)
    outcome = busybox_store.ok("pull", f"{registry.address}/app:quiet")
    assert "\x1b" not in outcome.out + outcome.err
    assert "\r" not in outcome.out + outcome.err
    busybox_store.ok("rmi", f"{registry.address}/app:quiet")


# -- save and load ---------------------------------------------------------------------------------


def _pulled(store: Store, registry: RegistryServer, compression: str = "gzip") -> tuple[str, Any]:
    pushed = registry.push_image("saved", compression, LAYERS, CONFIG, compression=compression)
    name = f"{registry.address}/saved:{compression}"
    store.ok("pull", "-q", name)
    return name, pushed


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir"])
def test_round_trips(
    busybox_store: Store, registry: RegistryServer, tmp_path: Path, kind: str
) -> None:
    """What is saved and loaded elsewhere is the same image: same id, same layers, same bytes."""
    name, pushed = _pulled(busybox_store, registry)
    path = str(tmp_path / "saved")
    busybox_store.ok("save", "--format", kind, "-o", path, name)
    outcome = busybox_store.strata("save", "--format", kind, "-o", path, name)
    busybox_store.ok("rmi", name)
    assert name not in names(busybox_store)
    loaded = busybox_store.ok("load", "-i", path)
    assert name in loaded.out
    manifest, config = image_files(busybox_store, pushed.id)
    assert config == pushed.config
    assert busybox_store.ok("run", "--rm", name).out == "one"
    again = str(tmp_path / "again")
    busybox_store.ok("save", "--format", kind, "-o", again, name)
    assert _content(again) == _content(path), f"saving twice gives the same: {outcome.err}"
    busybox_store.ok("load", "-i", again)
    assert image_files(busybox_store, pushed.id) == (manifest, config)
    busybox_store.ok("rmi", name)


def _content(path: str) -> dict[str, str]:
    """Names and digests of what a saved image holds."""
    found = {}
    if os.path.isdir(path):
        for folder, _, files in os.walk(path):
            for file in files:
                data = Path(folder, file).read_bytes()
                found[os.path.relpath(f"{folder}/{file}", path)] = hashlib.sha256(data).hexdigest()
        return found
    with tarfile.open(path) as archive:
        for member in archive:
            data = archive.extractfile(member)
            if data is not None:
                found[member.name] = hashlib.sha256(data.read()).hexdigest()
    return found


def test_saved_layers_are_the_very_tars_that_were_pushed(
    busybox_store: Store, registry: RegistryServer, tmp_path: Path
) -> None:
    name, pushed = _pulled(busybox_store, registry, "zstd")
    path = str(tmp_path / "saved.tar")
    busybox_store.ok("save", "-o", path, name)
    with tarfile.open(path) as archive:
        data = archive.extractfile("manifest.json")
        assert data is not None
        [document] = json.loads(data.read())
        assert document["RepoTags"] == [name]
        for member, layer in zip(document["Layers"], LAYERS, strict=True):
            data = archive.extractfile(member)
            assert data is not None
            assert data.read() == layer
        data = archive.extractfile(document["Config"])
        assert data is not None
        assert data.read() == pushed.config
    busybox_store.ok("rmi", name)


def test_save_and_load_through_pipes(busybox_store: Store, registry: RegistryServer) -> None:
    name, pushed = _pulled(busybox_store, registry)
    saved = subprocess.run(busybox_store.argv("save", name), stdout=subprocess.PIPE, check=True,
                           cwd=os.getcwd())  # fmt: skip
    busybox_store.ok("rmi", name)
    assert name in busybox_store.ok("load", input=saved.stdout).out
    assert image_files(busybox_store, pushed.id)[1] == pushed.config
    busybox_store.ok("rmi", name)


def test_several_images_in_one_archive(
    busybox_store: Store, registry: RegistryServer, tmp_path: Path
) -> None:
    one, _ = _pulled(busybox_store, registry, "gzip")
    two, _ = _pulled(busybox_store, registry, "plain")
    path = str(tmp_path / "both.tar")
    busybox_store.ok("tag", one, "localhost/other:1")
    busybox_store.ok("save", "-m", "-o", path, one, two, "localhost/other:1")
    busybox_store.ok("rmi", one, two, "localhost/other:1")
    out = busybox_store.ok("load", "-i", path).out
    assert all(name in out for name in (one, two, "localhost/other:1"))
    busybox_store.ok("rmi", one, two, "localhost/other:1")


def test_archives_that_are_none(busybox_store: Store, tmp_path: Path) -> None:
    cases = {
        "empty": b"", "text": b"not an archive at all\n" * 100, "zeros": bytes(10240),
        "other.tar": make_tar({"x": b"y"}), "list.tar": make_tar({"manifest.json": b"[]"}),
        "wrong.tar": make_tar({"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'}),
        "deep.tar": make_tar({"manifest.json": b"[" * 100_000}),
        "cut.tar": make_busybox_tar()[:100_000],
    }  # fmt: skip
    before = names(busybox_store)
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        outcome = busybox_store.strata("load", "-i", str(tmp_path / name))
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.startswith("Error: "), repr(outcome)
        assert "internal error" not in outcome.err, repr(outcome)
    assert busybox_store.strata("load", "-i", str(tmp_path / "none")).rc == 125
    assert names(busybox_store) == before


# -- commit, import, names -------------------------------------------------------------------------


def test_a_committed_image_survives_save_and_load(busybox_store: Store, tmp_path: Path) -> None:
    ok = busybox_store.ok
    ok("run", "--name", "worker", "busybox", "sh", "-c",
       "echo made >/made; rm /data/seed; mkdir -p /a/b; chmod 1777 /a/b; ln /made /hard; "
       "ln -s nowhere /dangling; chown -h 3:4 /dangling; mkfifo /fifo; "
       "chmod 6711 /bin/busybox")  # fmt: skip
    image_id = ok("commit", "-a", "me", "-m", "words", "-c", "ENV X=1", "-c",
                  'CMD ["cat","/made"]', "worker", "localhost/work:1").line  # fmt: skip
    path = str(tmp_path / "work.tar")
    ok("save", "-o", path, "localhost/work:1")
    ok("rm", "worker")
    ok("rmi", "localhost/work:1")
    ok("load", "-i", path)
    [found] = ok("image", "inspect", "localhost/work:1").json
    assert found["Id"] == image_id
    assert ok("run", "--rm", "localhost/work:1").line == "made"
    script = (
        "ls /data; stat -c '%a %h' /a/b /hard; readlink /dangling; stat -c '%u %g' /dangling; "
        "test -p /fifo && echo fifo; stat -c %a /bin/busybox; echo $X"
    )
    out = ok("run", "--rm", "localhost/work:1", "sh", "-c", script).out.split("\n")
    assert out == ["1777 1", "644 2", "nowhere", "3 4", "fifo", "6711", "1", ""]
    top = ok("history", "--format", "json", "localhost/work:1").json[0]
    assert top["comment"] == "words"
    ok("rmi", "localhost/work:1")


def test_archives_come_through_pipes_and_from_urls(
    busybox_store: Store, tmp_path: Path
) -> None:  # fmt: skip
    """A shell's <( ) is a pipe, which can be read once."""
    argv = shlex.join(busybox_store.argv())
    script = (
        f"{argv} import <(cat {get_busybox_tar()}) localhost/piped && "
        f"{argv} load -i <({argv} save {BUSYBOX})"
    )
    done = subprocess.run(["bash", "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Loaded image: {BUSYBOX}" in done.stdout
    assert busybox_store.ok("run", "--rm", "localhost/piped", "echo", "x").line == "x"

    shutil.copy(get_busybox_tar(), tmp_path / "rootfs.tar")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        busybox_store.ok("import", f"{url}/rootfs.tar", "localhost/fetched")
        missing = busybox_store.strata("import", f"{url}/nothing", "localhost/none")
        server.shutdown()
    assert missing.rc == 125
    assert "404" in missing.err
    assert busybox_store.strata("import", f"{url}/rootfs.tar").rc == 125, "nobody listens"
    assert busybox_store.strata("import", "ftp://localhost/x").rc == 125
    busybox_store.ok("rmi", "localhost/piped", "localhost/fetched")


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_an_image_of_another_platform_is_not_taken(busybox_store: Store) -> None:
    foreign = busybox_store.strata(
        "run", "--rm", "--pull", "never", "--platform", "linux/s390x", BUSYBOX, "true"
    )
    assert foreign.rc == 125
    assert "not for linux/s390x" in foreign.err
    own = busybox_store.ok("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", BUSYBOX).line
    busybox_store.ok("run", "--rm", "--platform", own, BUSYBOX, "true")


def test_newer_is_content_where_no_registry_answers(busybox_store: Store) -> None:
    name = "127.0.0.1:1/here"
    busybox_store.ok("tag", BUSYBOX, name)
    busybox_store.ok("run", "--rm", "--pull", "newer", name, "true")
    assert busybox_store.strata("run", "--rm", "--pull", "always", name, "true").rc == 125
    busybox_store.ok("rmi", name)


def test_import_with_changes(busybox_store: Store) -> None:
    ok = busybox_store.ok
    with open(get_busybox_tar(), "rb") as file:
        data = file.read()
    changes = ("ENTRYPOINT [\"echo\"]", "CMD [\"hello\"]", "ENV A=b", "WORKDIR /tmp", "USER user",
               "LABEL l=v", "EXPOSE 80", "STOPSIGNAL INT", "VOLUME /vol")  # fmt: skip
    argv = [word for change in changes for word in ("-c", change)]
    ok("import", "-m", "said", *argv, "-", "localhost/imported", input=data)
    assert ok("run", "--rm", "localhost/imported").line == "hello"
    [found] = ok("image", "inspect", "localhost/imported").json
    assert found["Config"]["User"] == "user"
    assert found["Config"]["Labels"] == {"l": "v"}
    assert found["Config"]["StopSignal"] in ("INT", "SIGINT")
    ok("rmi", "localhost/imported")
    outcome = busybox_store.strata("import", "-c", "NONSENSE x", get_busybox_tar(), "localhost/x")
    assert outcome.rc == 125
    assert "localhost/x:latest" not in names(busybox_store)


def test_tag_untag_and_rmi(busybox_store: Store) -> None:
    ok = busybox_store.ok
    image_id = ok("image", "inspect", "--format", "{{.Id}}", "busybox").line
    ok("tag", "busybox", "localhost/one", "example.com/two:3")
    assert {"localhost/one:latest", "example.com/two:3"} <= set(names(busybox_store))
    assert ok("run", "--rm", "example.com/two:3", "echo", "x").line == "x"
    assert "localhost/one:latest" in ok("rmi", "localhost/one").out
    assert busybox_store.strata("image", "exists", "localhost/one").rc == 1
    ok("untag", "example.com/two:3", "example.com/two:3")
    assert names(busybox_store) == ["localhost/busybox:latest"]
    assert busybox_store.strata("image", "exists", image_id[:12]).rc == 0
    for bad in ("x/UPPER", "a b", "x:y:z", "x@sha256:123", "/x", "x/", "", "a" * 300, "-x",
                "é", "localhost/x:" + "t" * 200, "../x", "x:.."):  # fmt: skip
        outcome = busybox_store.strata("tag", "busybox", "--", bad)
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.count("\n") <= 2
    assert names(busybox_store) == ["localhost/busybox:latest"]
    assert busybox_store.strata("rmi", "none").rc == 1
    assert busybox_store.strata("rmi", "-f", "none").rc == 0


def test_an_image_in_use_is_not_removed(busybox_store: Store) -> None:
    ok = busybox_store.ok
    ok("tag", "busybox", "localhost/used")
    ok("create", "--name", "user", "localhost/used")
    ok("rmi", "localhost/used")  # one of its names only
    outcome = busybox_store.strata("rmi", "busybox")
    assert outcome.rc == 2
    assert "user" in outcome.err or "container" in outcome.err
    assert ok("images", "-q").out != ""
    ok("start", "-a", "user")
    ok("rm", "user")


def test_history_and_tree_show_the_layers(busybox_store: Store, registry: RegistryServer) -> None:
    name, _ = _pulled(busybox_store, registry)
    history = busybox_store.ok("history", "--format", "json", name).json
    assert [row["CreatedBy"] for row in history] == ["layer 2", "layer 1", "layer 0"]
    tree = busybox_store.ok("image", "tree", name).out
    assert name in tree
    assert tree.count("\n") >= 4
    assert busybox_store.ok("history", "-q", name).out.count("\n") == 3
    busybox_store.ok("rmi", name)


def test_prune_takes_what_has_no_name_and_no_container(
    busybox_store: Store, registry: RegistryServer
) -> None:
    ok = busybox_store.ok
    name, pushed = _pulled(busybox_store, registry)
    ok("create", "--name", "user", name)
    ok("tag", "busybox", name)  # now the pulled one has no name
    assert pushed.id[:12] in ok("images", "--filter", "dangling=true", "-q").out
    ok("image", "prune", "-f")
    assert ok("run", "--rm", pushed.id, "cat", "/app/a").out == "one", "a container needs it"
    ok("rm", "user")
    assert pushed.id in ok("image", "prune", "-f").out
    assert busybox_store.strata("image", "exists", pushed.id).rc == 1
    ok("rmi", name)
    layers = f"{busybox_store.pool}/layers"
    known = {record["id"] for record in busybox_store.engine().records.list_records("layer")}
    wait_until(lambda: set(os.listdir(layers)) <= known | _used(busybox_store), "layers go")


def _used(store: Store) -> set[str]:
    return {record["layer"] for record in store.engine().records.list_records("container")}


def test_references_that_make_no_sense(busybox_store: Store) -> None:
    for bad in ("", "UPPER", "a b", "http://x/y", "x:", "x@", "a//b", "x\ny", "x" * 1000,
                "localhost:99999/x", "x@sha256:" + "g" * 64, "--", "é", "docker://x"):  # fmt: skip
        for argv in (("pull", "-q"), ("run", "--rm")):
            outcome = busybox_store.strata(*argv, "--", bad)
            assert outcome.rc == 125, repr(outcome)
            assert outcome.err.startswith("Error: "), repr(outcome)
            assert "internal error" not in outcome.err, repr(outcome)
    assert busybox_store.ok("ps", "-aq").out == ""


def test_an_images_files_are_shown_and_keep_it_in_use(busybox_store: Store) -> None:
    store = busybox_store
    path = store.ok("image", "mount", BUSYBOX).line
    try:
        assert "sh" in os.listdir(f"{path}/bin")
        with pytest.raises(OSError):
            os.mkdir(f"{path}/new")
        assert store.ok("image", "mount", BUSYBOX).line == path
        assert path in store.ok("image", "mount").out
        refused = store.strata("rmi", BUSYBOX)
        assert refused.rc == 2
        assert "image unmount" in refused.err
    finally:
        store.ok("image", "unmount", BUSYBOX)
    assert not os.path.exists(path)
    assert store.ok("image", "mount").out == ""
    assert store.strata("image", "unmount", BUSYBOX).rc == 125


def test_the_container_of_an_exec_may_be_the_latest_or_named_by_a_file(
    busybox_store: Store, tmp_path: Path
) -> None:
    store = busybox_store
    store.ok("run", "-d", "--name", "here", "--cidfile", f"{tmp_path}/id", BUSYBOX, "sleep", "99")
    try:
        assert store.ok("exec", "--latest", "echo", "latest").line == "latest"
        assert store.ok("exec", "--cidfile", f"{tmp_path}/id", "echo", "file").line == "file"
    finally:
        store.ok("rm", "-f", "-t", "0", "here")
