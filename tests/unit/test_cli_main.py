"""The command line from its words to its exit code, without a store."""

from __future__ import annotations

import os
from typing import Any

import pytest

from strata import __version__
from strata.cli import launcher
from strata.cli.context import for_each
from strata.cli.handlers.create import read_options
from strata.cli.index import find_command
from strata.cli.main import main
from strata.cli.messages import clean
from strata.cli.parse import parse
from strata.errors import InUse, NotFound, StateImproper, StrataError, UsageError


@pytest.mark.parametrize("words", [["--version"], ["-v"], ["--root", "/x", "--version"]])
def test_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out == f"strata version {__version__}\n"


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["--help"], "Containers, images and volumes"),
        (["-h"], "Containers, images and volumes"),
        (["help"], "Containers, images and volumes"),
        (["volume", "--help"], "Manage volumes."),
        (["run", "--help"], "Run a command in a new container."),
        (["help", "run"], "Run a command in a new container."),
        (["image", "rm", "-h"], "Remove images."),
        (["help", "system", "df"], "Show what uses space."),
        (["snapshot", "--help"], "Make and manage snapshots"),
    ],
)
def test_help_goes_to_standard_output(
    words: list[str], first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(first)
    assert captured.err == ""


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "missing command 'strata COMMAND'", "--help"),
        (["volume"], "missing command 'strata volume COMMAND'", "--help"),
        (["rnu"], "unrecognized command 'strata rnu'", "did you mean 'strata run'?"),
        (["volume", "creat"], "unrecognized command 'strata volume creat'", "volume create"),
        (["vol"], "unrecognized command 'strata vol'", "hint"),
        (["build", "."], "not available in this version: there is no builder", "--help"),
        (["image", "push", "x"], "not available in this version", "--help"),
        (["pod", "ps"], "not available in this version", "--help"),
        (["--nope"], "unknown flag: --nope", "--help"),
        (["run"], "requires at least 1 arg(s), only received 0", "usage: strata run IMAGE"),
        (["run", "-it"], "requires at least 1 arg(s)", "usage"),
        (["run", "-m", "much", "x"], "invalid size: 'much'", "512m"),
        (["run", "--network", "slirp4netns", "x"], "replaced by pasta", "--network pasta"),
        (["run", "--env-file", "/nonexistent/x", "x"], "no such file or directory", ""),
        (["run", "-d", "--detach-keys", "a", "x"], "cannot be used together", ""),
        (["snapshot", "data"], "unrecognized command 'strata snapshot data'", "data@"),
        (["rollback", "data"], "does not name a snapshot", "TARGET@NAME"),
        (["completion", "tcsh"], 'unknown shell "tcsh"', "bash, fish, zsh"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 125
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert hint in captured.err
    assert len(lines) <= 2


def test_an_internal_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> int:
        raise ZeroDivisionError("the world")

    monkeypatch.setattr("strata.cli.handlers.system.version", broken)
    assert main(["version"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("Error: internal error: ZeroDivisionError: the world\nhint: ")
    assert "STRATA_DEBUG=1" in error
    monkeypatch.setenv("STRATA_DEBUG", "1")
    assert main(["version"]) == 125
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (SystemExit(3), 3),
        (NotFound("gone"), 125),
        (StrataError("no", exit_code=127), 127),
        (PermissionError(13, "Permission denied", "/etc/x"), 125),
    ],
)
def test_how_a_command_ends(
    error: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ending(*_: Any) -> int:
        raise error

    monkeypatch.setattr("strata.cli.handlers.system.version", ending)
    assert main(["version"]) == code
    text = capsys.readouterr().err
    assert "internal error" not in text
    if isinstance(error, PermissionError):
        assert text.startswith("Error: /etc/x: permission denied\n")


class Opened:
    """Stands where a context is asked for its engine."""

    engine = object()


def test_errors_of_several_names_are_printed_and_the_gravest_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = {"a": NotFound("no a"), "b": None, "c": InUse("c is used"), "d": StateImproper("d")}

    def act(name: str) -> None:
        error = errors[name]
        if error is not None:
            raise error

    opened: Any = Opened()
    assert for_each(opened, "b", act) == 0
    assert for_each(opened, "ab", act, classify=True) == 1
    assert for_each(opened, "acbd", act, classify=True) == 2
    assert for_each(opened, "a", act) == 125
    errors["d"] = StrataError("worse")
    assert for_each(opened, "ad", act, classify=True) == 125
    assert "Error: no a\n" in capsys.readouterr().err


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert clean("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert clean("grüße") == "grüße"


def describe(*words: str, host: dict[str, str] | None = None) -> dict[str, Any]:
    command = find_command("run")
    assert command is not None
    options, arguments = parse(command, words)
    return read_options(options, arguments, host or {})


def test_a_plain_run_leaves_everything_to_image_and_engine() -> None:
    assert describe("debian:12") == {
        "image": "debian:12", "command": [], "name": "", "entrypoint": None, "env": [],
        "default_env": [], "workdir": None, "user": None, "tty": False, "stdin": False,
        "hostname": "", "init": False, "read_only": False, "read_only_tmpfs": True, "cap_add": [],
        "cap_drop": [], "privileged": False, "no_new_privileges": False, "seccomp": "",
        "apparmor": "", "label_opts": [], "mask": [], "unmask": [], "ulimits": [], "memory": None,
        "cpus": None, "pids_limit": None, "shm_size": None, "stop_signal": None,
        "stop_timeout": 10, "network": "bridge",
        "networks": [{"name": "strata", "id": "", "aliases": [], "ips": [], "mac": "",
                      "interface": ""}],
        "ports": [], "expose": [], "publish_all": False, "dns": [], "dns_search": [],
        "dns_option": [], "no_resolv": False, "no_hosts": False, "no_hostname": False,
        "hosts_file": "",
        "runtime": "crun", "log_driver": "k8s-file", "log_path": "", "labels": {},
        "annotations": {}, "add_hosts": [],
        "tmpfs": {}, "mounts": [], "remove": False, "storage": {}, "pull": "missing",
        "platform": None, "replace": False, "cidfile": "", "detach": False,
        "detach_keys": b"\x10\x11", "sig_proxy": True, "authfile": None,
        "tls_verify": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-it", "x"], {"tty": True, "stdin": True}),
        (["-d", "--rm", "x"], {"detach": True, "remove": True}),
        (["x", "sh", "-c", "-e A"], {"command": ["sh", "-c", "-e A"], "env": []}),
        (["-e", "A=1", "-e", "HOME", "x"], {"env": ["A=1", "HOME=/root"]}),
        (["--entrypoint", "", "x"], {"entrypoint": []}),
        (["--entrypoint", '["a","b"]', "x"], {"entrypoint": ["a", "b"]}),
        (["-w", "/srv", "-u", "1000:100", "x"], {"workdir": "/srv", "user": "1000:100"}),
        (["-l", "a=1", "--label", "b", "x"], {"labels": {"a": "1", "b": ""}}),
        (["-m", "1g", "--cpus", "1.5", "x"], {"memory": 1 << 30, "cpus": 1.5}),
        (["--pids-limit", "0", "x"], {"pids_limit": -1}),
        (["--stop-signal", "INT", "--stop-timeout=3", "x"], {"stop_signal": 2, "stop_timeout": 3}),
        (["--cap-drop=all", "--cap-add=chown,kill", "x"],
         {"cap_drop": ["ALL"], "cap_add": ["CAP_CHOWN", "CAP_KILL"]}),
        (["--security-opt", "seccomp=unconfined", "x"], {"seccomp": "unconfined"}),
        (["--ulimit", "nofile=1", "--ulimit", "nofile=2", "x"],
         {"ulimits": [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 2}]}),
        (["--net=none", "--hostname", "box", "x"],
         {"network": "none", "networks": [], "hostname": "box"}),
        (["-p", "80", "--expose", "81/udp", "-P", "x"],
         {"ports": [{"host_ip": "", "host_port": 0, "container_port": 80, "protocol": "tcp",
                     "range": 1}], "expose": ["81/udp"], "publish_all": True}),
        (["--dns", "9.9.9.9", "--dns-search", "a", "--dns-opt", "b", "--no-hosts", "x"],
         {"dns": ["9.9.9.9"], "dns_search": ["a"], "dns_option": ["b"], "no_hosts": True}),
        (["--log-driver", "json-file", "x"], {"log_driver": "json-file"}),
        (["-a", "STDIN,stderr", "x"], {"attach": ["stderr"]}),
        (["--log-driver", "none", "--runtime", "runc", "x"],
         {"log_driver": "none", "runtime": "runc"}),
        (["--detach-keys", "", "--sig-proxy=false", "x"],
         {"detach_keys": b"", "sig_proxy": False}),
        (["--tls-verify=false", "--pull", "never", "x"], {"tls_verify": False, "pull": "never"}),
        (["--tmpfs", "/run:size=1k", "x"], {"tmpfs": {"/run": "size=1024"}, "mounts": []}),
        (["--storage-opt", "size=1g", "x"], {"storage": {"size": "1g"}}),
        (["--platform", "linux/arm64", "x"], {"platform": "linux/arm64"}),
    ],
)  # fmt: skip
def test_options_describe_the_container(words: list[str], expected: dict[str, Any]) -> None:
    found = describe(*words, host={"HOME": "/root"})
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "words",
    [
        [""],
        ["-w", "srv", "x"],
        ["--replace", "x"],
        ["--name", "a b", "x"],
        ["--pids-limit", "-2", "x"],
        ["--cpus", "-1", "x"],
        ["--stop-timeout", "-5", "x"],
        ["--stop-signal", "HALT", "x"],
        ["--platform", "arm", "x"],
        ["-v", "a:/d", "--tmpfs", "/d", "x"],
        ["--cap-add", "", "--ulimit", "x", "x"],
    ],
)
def test_contradictions_are_refused_before_anything_is_touched(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        describe(*words)
    assert caught.value.message


def test_files_of_variables_and_labels(tmp_path: Any) -> None:
    variables = tmp_path / "env"
    variables.write_text("A=file\nB=file\n# C=1\n")
    labels = tmp_path / "labels"
    labels.write_text("a=file\nb=file\n")
    found = describe("--env-file", str(variables), "-e", "B=option", "--label-file", str(labels),
                     "-l", "b=option", "x")  # fmt: skip
    assert found["env"] == ["A=file", "B=option"]
    assert found["labels"] == {"a": "file", "b": "option"}


def test_a_launcher_is_isolated_and_executable(tmp_path: Any) -> None:
    target = tmp_path / "strata"
    launcher.write_launcher("/usr/bin/python3", "/opt/strata", "/opt/strata/site", str(target))
    text = target.read_text()
    lines = text.splitlines()
    assert lines[0] == "#!/usr/bin/python3 -IS"
    assert lines.index("sys.path.insert(0, '/opt/strata')") < lines.index(
        "sys.path.append('/opt/strata/site')"
    )
    compile(text, "strata", "exec")
    assert target.stat().st_mode & 0o777 == 0o755
    assert os.listdir(tmp_path) == ["strata"]
    launcher.write_launcher("/usr/bin/python3.12", "/opt/strata", "/opt/site", str(target))
    assert target.read_text().startswith("#!/usr/bin/python3.12 -IS")


@pytest.mark.parametrize(
    ("python", "package"),
    [("python3", "/opt"), ("/opt/my python", "/opt"), ("/" + "x" * 130, "/opt"), ("/p", "opt")],
)
def test_a_launcher_that_cannot_work_is_refused(python: str, package: str, tmp_path: Any) -> None:
    target = tmp_path / "strata"
    with pytest.raises(ValueError, match=r"absolute path|#!"):
        launcher.write_launcher(python, package, "/site", str(target))
    assert not target.exists()


def test_strata_knows_how_to_call_itself_back() -> None:
    assert launcher.find_own_argv("/usr/local/bin/strata") == ["/usr/local/bin/strata"]
    python, flag, path = launcher.find_own_argv(None)
    assert python.startswith("/")
    assert flag == "-I"
    assert path.endswith("/strata/__main__.py")
    assert os.path.exists(path)
