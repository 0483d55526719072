"""Reading command lines: what pflag does, so that Podman's habits work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.cli.index import find_command, list_commands
from strata.cli.main import main
from strata.cli.parse import Options, check_arguments, parse
from strata.cli.table import Command, Option
from strata.errors import UsageError

COMMAND = Command(
    ("try",),
    "Try",
    "none:none",
    "ARG...",
    0,
    None,
    (
        Option("--all -a", "flag", "all"),
        Option("--proxy", "flag", "proxy", default=True),
        Option("--verify", "tristate", "verify"),
        Option("--env -e", "list", "env", "E"),
        Option("--cap", "csv", "cap", "C"),
        Option("--label -l", "map", "label", "L"),
        Option("--name -n", "string", "name", "N"),
        Option("--count -c", "int", "count", "C", 7),
        Option("--cpus", "float", "cpus", "C"),
        Option("--memory -m", "size", "memory", "M"),
        Option("--wait", "duration", "wait", "W"),
        Option("--pull", "string", "pull", "P", "missing", choices=("always", "missing")),
        Option("--tty -t", "flag", "tty"),
        Option("--net --network", "string", "net", "N"),
    ),
)
FIRM = Command(("firm",), "Firm", "none:none", "ARG...", 0, None, COMMAND.options,
               interspersed=False)  # fmt: skip


def read(*words: str, command: Command = COMMAND) -> tuple[Options, list[str]]:
    return parse(command, words)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--name", "web"], "name", "web"),
        (["--name=web"], "name", "web"),
        (["--name="], "name", ""),
        (["-n", "web"], "name", "web"),
        (["-nweb"], "name", "web"),
        (["-n=web"], "name", "web"),
        (["-n", "-x"], "name", "-x"),
        (["--name", "--all"], "name", "--all"),
        (["--name", "a", "--name", "b"], "name", "b"),
        (["-a"], "all", True),
        (["--all=false"], "all", False),
        (["--all=T"], "all", True),
        (["-a=0"], "all", False),
        (["--proxy=false"], "proxy", False),
        ([], "proxy", True),
        ([], "verify", None),
        (["--verify"], "verify", True),
        (["--verify=false"], "verify", False),
        (["-at"], "tty", True),
        (["-tan", "web"], "name", "web"),
        (["-tnweb"], "name", "web"),
        (["-e", "A=1", "-eB=2", "--env=C=3"], "env", ["A=1", "B=2", "C=3"]),
        (["-e=A=1"], "env", ["A=1"]),
        (["--cap", "A,B", "--cap=C"], "cap", ["A", "B", "C"]),
        (["-l", "a=1", "-l", "b", "-l", "a=2=3"], "label", {"a": "2=3", "b": ""}),
        ([], "count", 7),
        (["-c", "-1"], "count", -1),
        (["--cpus", "1.5"], "cpus", 1.5),
        (["-m512m"], "memory", 512 << 20),
        (["--wait", "1m30s"], "wait", 90.0),
        (["--pull", "always"], "pull", "always"),
        (["--network", "host"], "net", "host"),
    ],
)
def test_a_value_is_read(words: list[str], key: str, value: object) -> None:
    options, arguments = read(*words)
    assert options.get(key) == value
    assert arguments == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nope=1"], "unknown flag: --nope"),
        (["-z"], "unknown shorthand flag: 'z' in -z"),
        (["-az"], "unknown shorthand flag: 'z' in -az"),
        (["--name"], "flag needs an argument: --name"),
        (["-an"], "flag needs an argument: 'n' in -an"),
        (["--all=maybe"], 'invalid argument "maybe" for "-a, --all" flag'),
        (["-c", "x"], 'invalid argument "x" for "-c, --count" flag: not a whole number'),
        (["-c", "1_0"], "not a whole number"),
        (["--cpus", "nan"], "not a number"),
        (["-m", "5 parsecs"], "invalid size"),
        (["--wait", "soon"], "invalid duration"),
        (["--pull", "often"], "must be one of always, missing"),
        (["-l", "=x"], "the key is empty"),
    ],
)
def test_nonsense_is_an_error_with_a_hint(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 125


def test_a_mistyped_option_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        read("--memroy", "1g")
    assert caught.value.hint == "did you mean --memory?"


def test_an_option_of_a_later_version_says_why() -> None:
    run = find_command("run")
    assert run is not None
    for words in (["--sdnotify", "x", "web"], ["--rdt-class=x", "web"], ["--pod", "x", "web"]):
        with pytest.raises(UsageError) as caught:
            parse(run, words)
        assert "is not available in this version" in caught.value.message


def test_options_may_follow_arguments() -> None:
    options, arguments = read("one", "-a", "two", "--", "-t")
    assert arguments == ["one", "two", "-t"]
    assert options.flag("all")
    assert not options.flag("tty")


def test_the_containers_own_words_are_untouched() -> None:
    words = ["-a", "image", "cmd", "-t", "--nope", "--", "--help", "-e"]
    options, arguments = read(*words, command=FIRM)
    assert arguments == words[1:]
    assert not options.flag("tty")
    assert not options.flag("help")


def test_two_dashes_end_the_options() -> None:
    _, arguments = read("-a", "--", "image", "--", "-t", command=FIRM)
    assert arguments == ["image", "--", "-t"]


def test_one_dash_is_an_argument() -> None:
    assert read("-")[1] == ["-"]


def test_the_host_name_wins_over_help() -> None:
    run = find_command("run")
    assert run is not None
    options, _ = parse(run, ["-h", "box", "image"])
    assert options.text("hostname") == "box"
    assert not options.flag("help")
    ps = find_command("ps")
    assert ps is not None
    assert parse(ps, ["-h"])[0].flag("help")


@pytest.mark.parametrize(
    ("path", "words", "message"),
    [
        ("trash restore", [], "requires at least 1 arg(s), only received 0"),
        ("rename", ["a"], "accepts 2 arg(s), received 1"),
        ("commit", ["a", "b", "c"], "accepts at most 2 arg(s), received 3"),
        ("ps", ["web"], 'unknown argument "web" for "strata ps"'),
    ],
)
def test_the_number_of_arguments_is_checked(path: str, words: list[str], message: str) -> None:
    command = find_command(path)
    assert command is not None
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        check_arguments(command, words)
    assert caught.value.hint.startswith(f"usage: strata {path}")


WORDS = st.lists(
    st.one_of(
        st.sampled_from(["-a", "-at", "--", "-", "--all", "--all=x", "-e", "--name", "-m", "--cap",
                         "--label", "=", "--=", "-=", "---", "-m1g", "--wait=1h", "--help"]),
        st.text(max_size=6),
    ),
    max_size=8,
)  # fmt: skip


@given(words=WORDS, command=st.sampled_from([COMMAND, FIRM, *list_commands()]))
def test_any_words_are_read_or_refused(words: list[str], command: Command) -> None:
    try:
        _, arguments = parse(command, words)
    except UsageError:
        pass
    else:
        assert len(arguments) <= len(words)


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.text(max_size=8), max_size=6))
def test_what_follows_the_image_is_passed_on(before: list[str], after: list[str]) -> None:
    _, arguments = read("-e", "A", "image", *before, "--", *after, command=FIRM)
    assert arguments == ["image", *before, "--", *after]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--log-level=error", "help"], 0, ""),
        (["-l", "warn", "--remote=false", "--syslog", "help", "ps"], 0, ""),
        (["help", "ps", "--log-level", "error"], 0, ""),
        (["--context", "default", "--cgroup-manager", "cgroupfs", "help"], 0, ""),
        (["--log-level", "loud", "help"], 125, 'invalid argument "loud"'),
        (["--remote", "help"], 125, "--remote is not available"),
        (["--url", "x", "help"], 125, "--url is not available"),
        (["help", "--storage-driver", "vfs"], 125, "--storage-driver is not available"),
        (["-H", "unix:///x", "help"], 125, "-H is not available"),
        (["--noothing", "help"], 125, "unknown flag: --noothing"),
    ],
)
def test_options_before_a_command_are_podmans_and_dockers(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert ("Usage:" in shown.out) == (code == 0)
    assert "strata  --help" not in shown.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["swarm", "init"], "'strata swarm' is not available in this version: there is one host"),
        (["context", "ls"], "'strata context' is not available"),
        (["run", "--link", "a:b", "x"], "--link is not available"),
        (["stop", "--signal", "INT", "x"], "--signal is not available"),
        (["image", "trust", "show"], "there are no signatures"),
        (["volume", "create", "--name", "a", "b"], "--name and an argument"),
    ],
)
def test_what_only_docker_has_is_answered_with_a_reason(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 125
    assert text in capsys.readouterr().err
