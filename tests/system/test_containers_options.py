"""Every option of ``run`` and ``create``, seen from inside the container."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from helpers.store import Outcome, Store

pytestmark = pytest.mark.btrfs

IMAGE = "busybox"


def run(store: Store, *options: str, sh: str) -> Outcome:
    """``run --rm`` with options and a shell script."""
    return store.ok("run", "--rm", *options, IMAGE, "sh", "-c", sh)


def inspect(store: Store, name: str) -> dict[str, object]:
    [found] = store.ok("container", "inspect", name).json
    return found


def test_the_environment_comes_from_options_files_and_the_host(
    busybox_store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\nFROM_FILE=file value\nBOTH=file\nEMPTY=\n")
    out = busybox_store.ok(
        "run", "--rm", "--env-file", str(file), "-e", "BOTH=option", "-e", "HOST_ONE", "-e",
        "MULTI=a=b\nc", IMAGE, "sh", "-c",
        'echo "$FROM_FILE|$BOTH|${EMPTY-unset}|$HOST_ONE|$MULTI|$container|$HOME"',
        env={"HOST_ONE": "of the host"},
    ).line  # fmt: skip
    assert out == "file value|option||of the host|a=b\nc|strata|/root"


def test_an_environment_that_looks_like_our_own_text_changes_nothing(busybox_store: Store) -> None:
    """The filter is put into the text of config.json, so words that look like its place count."""
    for word in ("@seccomp@", '"@seccomp@"'):
        out = busybox_store.ok("run", "--rm", "-e", f"X={word}", IMAGE, "echo", word, "@seccomp@")
        assert out.line == f"{word} @seccomp@"
    out = run(busybox_store, "--hostname", "h", sh="grep Seccomp: /proc/self/status")
    assert out.line.split() == ["Seccomp:", "2"]


def test_entrypoint_replaces_the_image_s_and_drops_its_command(busybox_store: Store) -> None:
    ok = busybox_store.ok
    assert ok("run", "--rm", "--entrypoint", "echo", IMAGE).out == "\n"
    assert ok("run", "--rm", "--entrypoint", "echo", IMAGE, "a", "-n").line == "a -n"
    assert ok("run", "--rm", "--entrypoint", '["echo","-n","x"]', IMAGE, "y").out == "x y"
    assert ok("run", "--rm", "--entrypoint", "", IMAGE, "echo", "plain").line == "plain"


def test_the_working_directory_is_made_when_it_is_missing(busybox_store: Store) -> None:
    assert run(busybox_store, "-w", "/a/b/c", sh="pwd").line == "/a/b/c"
    assert run(busybox_store, "-w", "/tmp/../data", sh="pwd").line == "/data"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("user", "uid=1000 gid=1000 groups=50"),
        ("1000", "uid=1000 gid=1000 groups=50"),
        ("4242", "uid=4242 gid=0 groups="),
        ("user:staff", "uid=1000 gid=50 groups="),
        ("7:8", "uid=7 gid=8 groups="),
    ],
)
def test_user(busybox_store: Store, user: str, expected: str) -> None:
    script = "id -u; id -g; sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status"
    uid, gid, groups = run(busybox_store, "-u", user, sh=script).out.split("\n")[:3]
    assert f"uid={uid} gid={gid} groups={groups.strip()}" == expected


def test_a_user_that_does_not_exist_leaves_nothing(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "--rm", "-u", "nobody-here", IMAGE, "true")
    assert outcome.rc == 126
    assert "unable to find user nobody-here" in outcome.err
    assert busybox_store.ok("ps", "-aq").out == ""


def test_nothing_given_is_as_if_it_were_left_out(busybox_store: Store) -> None:
    """As scripts do it: -m "$LIMIT"."""
    for options in (["-m", ""], ["-w", ""], ["--shm-size", ""], ["--memory-reservation", ""]):
        assert run(busybox_store, *options, sh="pwd").line == "/"


def test_proc_can_be_hidden(busybox_store: Store) -> None:
    text = run(busybox_store, "--security-opt", "proc-opts=hidepid=2",
               sh="grep ' /proc ' /proc/mounts").line  # fmt: skip
    assert "hidepid=" in text
    assert "nosuid" in text


def test_a_users_own_home(busybox_store: Store) -> None:
    assert run(busybox_store, "-u", "user", sh="echo $HOME; umask").out.split() == ["/tmp", "0022"]


def test_labels_and_annotations_are_shown(busybox_store: Store) -> None:
    busybox_store.ok("create", "--name", "labelled", "-l", "a=1", "-l", "b", "--annotation", "n=v",
                     IMAGE)  # fmt: skip
    try:
        config = inspect(busybox_store, "labelled")["Config"]
        assert config["Labels"] == {"a": "1", "b": ""}  # type: ignore[index]
        assert config["Annotations"] == {"n": "v"}  # type: ignore[index]
        rows = busybox_store.ok("ps", "-a", "--filter", "label=a=1", "--format", "json").json
        assert [row["Names"] for row in rows] == [["labelled"]]
        assert busybox_store.ok("ps", "-aq", "--filter", "label=a=2").out == ""
    finally:
        busybox_store.ok("rm", "labelled")


def test_hostname_and_hosts(busybox_store: Store) -> None:
    out = run(
        busybox_store, "--network", "none", "--hostname", "box", "--add-host", "db:10.1.2.3",
        sh="hostname; cat /etc/hostname; grep -c '^10.1.2.3[[:space:]]*db$' /etc/hosts; "
        "grep -c box /etc/hosts",
    ).out.split()  # fmt: skip
    assert out == ["box", "box", "1", "1"]
    assert run(busybox_store, sh="hostname").line == socket.gethostname()
    short = busybox_store.ok("run", "--rm", "--network", "none", IMAGE, "hostname").line
    assert len(short) == 12


def test_init_is_the_first_process_and_forwards_the_code(busybox_store: Store) -> None:
    out = run(busybox_store, "--init", sh="tr '\\0' '\\n' </proc/1/cmdline; echo $$").out.split()
    assert out[0] == "/run/strata-init"
    assert out[-1] != "1"
    assert busybox_store.strata("run", "--rm", "--init", IMAGE, "sh", "-c", "exit 7").rc == 7


def test_read_only_leaves_only_the_temporary_places(busybox_store: Store) -> None:
    script = (
        "touch /x 2>/dev/null && echo root; touch /etc/hosts 2>/dev/null && echo hosts; "
        "touch /tmp/x && echo tmp; touch /run/x && echo run; touch /var/tmp/x && echo vartmp; "
        "touch /dev/shm/x && echo shm; touch /dev/x 2>/dev/null; true"
    )
    assert run(busybox_store, "--read-only", sh=script).out.split() == [
        "tmp", "run", "vartmp", "shm",
    ]  # fmt: skip
    outcome = run(busybox_store, "--read-only", "--read-only-tmpfs=false",
                  sh="touch /tmp/x 2>/dev/null && echo tmp; true")  # fmt: skip
    assert outcome.out == ""


def test_capabilities(busybox_store: Store) -> None:
    script = "sed -n 's/CapEff:[[:space:]]*//p;s/CapBnd:[[:space:]]*//p' /proc/self/status"

    def masks(*options: str) -> list[int]:
        return [int(text, 16) for text in run(busybox_store, *options, sh=script).out.split()]

    assert masks("--cap-drop", "ALL") == [0, 0]
    assert masks("--cap-drop", "all", "--cap-add", "net_admin") == [1 << 12, 1 << 12]
    default = masks()
    assert default[0] & (1 << 21) == 0, "SYS_ADMIN is not a default"
    assert masks("--cap-drop", "CHOWN") == [mask & ~1 for mask in default]
    assert masks("-u", "user")[0] == 0
    outcome = busybox_store.strata("run", "--rm", "--cap-add", "CAP_NONSENSE", IMAGE, "true")
    assert outcome.rc == 125
    assert "NONSENSE" in outcome.err


def test_privileged(busybox_store: Store) -> None:
    out = run(
        busybox_store, "--privileged",
        sh="grep Seccomp: /proc/self/status; test -e /dev/loop-control && echo devices; "
        "mkdir /m && mount -t tmpfs none /m && echo mounted; "
        "test -w /proc/sys/kernel/hostname && echo sys",
    ).out.split()  # fmt: skip
    assert out == ["Seccomp:", "0", "devices", "mounted", "sys"]


def test_security_options(busybox_store: Store, tmp_path: Path) -> None:
    status = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"
    out = run(busybox_store, "--security-opt", "no-new-privileges", sh=status)
    assert out.out.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]
    out = run(busybox_store, "--security-opt", "seccomp=unconfined", sh=status)
    assert out.out.split() == ["NoNewPrivs:", "0", "Seccomp:", "0"]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }))  # fmt: skip
    out = run(busybox_store, "--security-opt", f"seccomp={profile}",
              sh="mkdir /x 2>&1; true")  # fmt: skip
    assert "not implemented" in out.out.lower()
    out = run(busybox_store, "--security-opt", "mask=/data", sh="ls /data")
    assert out.out == ""
    outcome = busybox_store.strata("run", "--rm", "--security-opt", "seccomp=/nowhere", IMAGE, "id")
    assert outcome.rc == 125
    assert "/nowhere" in outcome.err


def test_the_default_filter_forbids_what_it_should(busybox_store: Store) -> None:
    out = run(busybox_store, sh="mkdir /m; mount -t tmpfs none /m 2>&1; true")
    assert "not permitted" in out.out.lower() or "denied" in out.out.lower()


def test_masked_and_read_only_places(busybox_store: Store) -> None:
    out = run(busybox_store, sh="cat /proc/keys | wc -c; ls /sys/firmware | wc -l; "
              "echo x 2>/dev/null >/proc/sys/kernel/hostname || echo ro")  # fmt: skip
    assert out.out.split() == ["0", "0", "ro"]


def test_ulimits(busybox_store: Store) -> None:
    out = run(busybox_store, "--ulimit", "nofile=100:200", "--ulimit", "core=0",
              sh="ulimit -Sn; ulimit -Hn; ulimit -c")  # fmt: skip
    assert out.out.split() == ["100", "200", "0"]


@pytest.mark.parametrize("value", ["nofile=10:5", "bogus=1", "nofile", "nofile=x", "nofile=-5"])
def test_ulimits_that_make_no_sense(busybox_store: Store, value: str) -> None:
    outcome = busybox_store.strata("run", "--rm", "--ulimit", value, IMAGE, "true")
    assert outcome.rc == 125
    assert outcome.err.startswith("Error: ")
    assert busybox_store.ok("ps", "-aq").out == ""


def _limit(kind: str, file: str) -> str:
    """A shell word that prints a limit of the container's own cgroup, v1 or v2."""
    return f"cat /sys/fs/cgroup/{kind}/{file} 2>/dev/null || cat /sys/fs/cgroup/{file}"


def test_limits_on_memory_cpus_and_processes(busybox_store: Store) -> None:
    options = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "17")
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max"
        expected = [str(64 << 20), "50000", "100000", "17"]
    else:
        script = (
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us "
            "cpu/cpu.cfs_period_us pids/pids.max"
        )
        expected = [str(64 << 20), "50000", "100000", "17"]
    assert run(busybox_store, *options, sh=script).out.split() == expected


def test_a_container_over_its_memory_is_killed_and_says_so(busybox_store: Store) -> None:
    outcome = busybox_store.strata(
        "run", "--name", "greedy", "--memory", "16m", IMAGE, "sh", "-c",
        "head -c 64m /dev/zero | tail >/dev/null; x=$(head -c 200m /dev/zero | tr '\\0' x); echo no"
    )  # fmt: skip
    try:
        assert outcome.rc in (1, 137), repr(outcome)
        assert inspect(busybox_store, "greedy")["State"]["OOMKilled"] is True  # type: ignore[index]
    finally:
        busybox_store.ok("rm", "greedy")


def test_tmpfs_and_mounts(busybox_store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    out = run(
        busybox_store, "--tmpfs", "/t:size=1m,mode=1777", "-v", f"{tmp_path}:/host:ro",
        "--mount", f"type=bind,source={tmp_path},target=/rw",
        "--mount", "type=tmpfs,destination=/t2,tmpfs-size=1m",
        sh="cat /host/file; touch /host/x 2>/dev/null || echo ro; echo new >/rw/made; "
        "stat -c %a /t; df -P /t | tail -1 | { read a b c; echo $b; }; "
        "head -c 2m /dev/zero >/t2/big 2>/dev/null || echo full",
    )  # fmt: skip
    assert out.out.split("\n")[:6] == ["of the host", "ro", "1777", "1024", "full", ""]
    assert (tmp_path / "made").read_text() == "new\n"
    assert not (tmp_path / "x").exists()


def test_a_file_can_be_mounted_over_a_file_and_where_nothing_is(
    busybox_store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "passwd"
    file.write_text("other:x:5:5::/:/bin/sh\n")
    out = run(busybox_store, "-v", f"{file}:/etc/passwd:ro", "-v", f"{file}:/new/place",
              sh="cat /etc/passwd /new/place")  # fmt: skip
    assert out.out == file.read_text() * 2


def test_a_bind_source_that_is_missing_is_an_error(busybox_store: Store, tmp_path: Path) -> None:
    outcome = busybox_store.strata("run", "--rm", "-v", f"{tmp_path}/none:/x", IMAGE, "true")
    assert outcome.rc == 125
    assert f"{tmp_path}/none: no such file or directory" in outcome.err
    assert not (tmp_path / "none").exists()
    assert busybox_store.ok("ps", "-aq").out == ""


def test_networks(busybox_store: Store) -> None:
    assert run(busybox_store, "--network", "none", sh="ls /sys/class/net").out.split() == ["lo"]
    host = sorted(os.listdir("/sys/class/net"))
    assert sorted(run(busybox_store, sh="ls /sys/class/net").out.split()) == host
    outcome = busybox_store.strata("run", "--rm", "--network", "slirp4netns", IMAGE, "true")
    assert outcome.rc == 125
    assert "pasta" in outcome.err


def test_runc_does_the_same(busybox_store: Store) -> None:
    outcome = busybox_store.strata("run", "--rm", "--runtime", "runc", "-i", IMAGE, "sh", "-c",
                                   "cat; exit 3", input="through runc")  # fmt: skip
    assert (outcome.rc, outcome.out) == (3, "through runc"), repr(outcome)
    assert busybox_store.strata("run", "--rm", "--runtime", "runc", IMAGE, "/none").rc == 127
    outcome = busybox_store.strata("run", "--rm", "--runtime", "nonsense", IMAGE, "true")
    assert outcome.rc in (125, 127)
    assert "nonsense" in outcome.err
    assert busybox_store.ok("ps", "-aq").out == ""


def test_the_log_driver_none_keeps_nothing(busybox_store: Store) -> None:
    busybox_store.ok("run", "--name", "quiet", "--log-driver", "none", IMAGE, "echo", "said")
    try:
        outcome = busybox_store.strata("logs", "quiet")
        assert outcome.rc == 125
        assert "log" in outcome.err
        assert outcome.out == ""
    finally:
        busybox_store.ok("rm", "quiet")


def test_the_cidfile_is_never_overwritten(busybox_store: Store, tmp_path: Path) -> None:
    path = str(tmp_path / "cid")
    out = busybox_store.ok("run", "--rm", "--network", "none", "--cidfile", path, IMAGE, "hostname")
    with open(path) as file:
        written = file.read()
    assert len(written) == 64
    assert written.startswith(out.line)
    outcome = busybox_store.strata("run", "--rm", "--cidfile", path, IMAGE, "true")
    assert outcome.rc == 125
    assert "container id file exists" in outcome.err
    outcome = busybox_store.strata("create", "--cidfile", f"{tmp_path}/no/such/x", IMAGE)
    assert outcome.rc == 125
    assert busybox_store.ok("ps", "-aq").out == ""


def test_stop_signal_and_timeout(busybox_store: Store) -> None:
    script = "trap 'exit 42' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done"
    busybox_store.ok("run", "-d", "--name", "polite", "--stop-signal", "USR1", IMAGE, "sh", "-c",
                     script)  # fmt: skip
    busybox_store.wait_for_log("polite", "ready")
    busybox_store.ok("stop", "polite")
    assert busybox_store.ok("wait", "polite").line == "42"
    busybox_store.ok("rm", "polite")
    busybox_store.ok("run", "-d", "--name", "stubborn", "--stop-timeout", "0", IMAGE, "sh", "-c",
                     script)  # fmt: skip
    busybox_store.ok("stop", "stubborn")
    assert busybox_store.ok("wait", "stubborn").line == "137"
    busybox_store.ok("rm", "stubborn")


def test_a_process_that_ignores_the_signal_is_killed_in_time(busybox_store: Store) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    busybox_store.ok("run", "-d", "--name", "deaf", IMAGE, "sh", "-c", script)
    busybox_store.wait_for_log("deaf", "ready")
    busybox_store.ok("stop", "-t", "1", "deaf")
    assert busybox_store.ok("wait", "deaf").line == "137"
    busybox_store.ok("rm", "deaf")


def test_create_takes_the_same_options_and_start_honours_them(busybox_store: Store) -> None:
    busybox_store.ok("create", "--name", "later", "-e", "A=1", "-w", "/data", "-u", "user", IMAGE,
                     "sh", "-c", "echo $A $PWD $(id -u)")  # fmt: skip
    try:
        assert inspect(busybox_store, "later")["State"]["Status"] == "created"  # type: ignore[index]
        assert busybox_store.ok("start", "-a", "later").line == "1 /data 1000"
        assert busybox_store.ok("start", "-a", "later").line == "1 /data 1000"
    finally:
        busybox_store.ok("rm", "later")


@pytest.mark.parametrize(
    "name",
    ["-lead", "../up", "a/b", "a b", "ü", "x" * 300, ".hidden", "a\nb", "$(id)", "_x", "a@b"],
)
def test_names_that_make_no_sense(busybox_store: Store, name: str) -> None:
    for argv in (("create", f"--name={name}", IMAGE), ("volume", "create", "--", name)):
        outcome = busybox_store.strata(*argv)
        assert outcome.rc == 125, repr(outcome)
        assert outcome.err.startswith("Error: ")
        assert outcome.err.count("\n") <= 2, "one line and a hint"
    assert busybox_store.ok("ps", "-aq").out == ""
    assert busybox_store.ok("volume", "ls", "-q").out == ""


@pytest.mark.parametrize(
    "options",
    [
        ("--memory", "-1"), ("--memory", "x"), ("--memory", "1k"), ("--cpus", "-1"),
        ("--cpus", "nan"), ("--cpus", "inf"), ("--pids-limit", "x"), ("--stop-signal", "NOPE"),
        ("--stop-timeout", "x"), ("-v", "a:b:c:d"), ("-v", "x:relative"), ("-v", "/tmp:/"),
        ("-v", "/tmp:/x:nonsense"), ("--mount", "type=nonsense,target=/x"),
        ("--mount", "type=bind"), ("--tmpfs", "relative"), ("--tmpfs", "/x:nonsense"),
        ("--hostname", "a b"),
        ("--hostname", "x" * 300), ("--add-host", "nonsense"), ("--add-host", "a:not-an-address"),
        ("--workdir", "relative"), ("--runtime", ""), ("--nonsense",), ("--log-driver", "syslog"),
        ("--security-opt", "nonsense=1"), ("--env-file", "/nowhere"), ("-e", "=x"), ("-l", "=x"),
        ("-v", "../escape:/x:size=3"), ("-v", "vol/ume:/x"), ("--user", "a:b:c"),
        ("-u", "99999999999"), ("--storage-opt", "mountpoint=/x"),
        ("--storage-opt", "size=1"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(busybox_store: Store, options: tuple[str, ...]) -> None:
    """One sentence and perhaps a hint, exit code 125, and nothing left."""
    outcome = busybox_store.strata("run", "--rm", *options, IMAGE, "true")
    if options == ("--runtime", ""):
        assert outcome.rc == 0
        return
    code = 126 if options[0] in ("-u", "--user") else 125  # the image knows its users
    assert outcome.rc == code, repr(outcome)
    assert outcome.err.startswith("Error: "), repr(outcome)
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    assert outcome.err.count("\n") <= 2, repr(outcome)
    assert busybox_store.ok("ps", "-aq").out == ""
    assert busybox_store.ok("volume", "ls", "-q").out == ""


def test_the_size_of_a_container_is_its_limit(busybox_store: Store) -> None:
    fill = ("dd", "if=/dev/urandom", "of=/x", "bs=1M", "count=30")
    full = busybox_store.strata(
        "run", "--rm", "--storage-opt", "size=20m", IMAGE, *fill, "conv=fsync"
    )
    assert full.rc == 1, repr(full)
    busybox_store.ok("run", "--rm", "--storage-opt", "size=100m", IMAGE, *fill)
