"""The tables of commands hold together, and everything derived from them agrees."""

from __future__ import annotations

import ast
import os

import pytest

from strata.cli import completion, help, man, podman, reference, unavailable
from strata.cli.index import GROUP_DEFAULTS, GROUPS, MODULES, TABLES, find_command, list_commands
from strata.cli.index import load_table as load
from strata.cli.table import GLOBAL_OPTIONS, Command

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = {"flag", "tristate", "string", "int", "float", "size", "duration", "list", "csv", "map"}

# What the product promises; a command that vanishes must be missed.
PROMISED = """
pull load save import images inspect history tag untag rmi
image ls|image pull|image load|image save|image import|image inspect|image history|image tag
image untag|image rm|image exists|image tree|image prune|image bootstrap
run create start stop kill rm ps logs exec attach wait commit cp rename
container run|container create|container start|container stop|container kill|container rm
container ls|container logs|container exec|container attach|container inspect|container wait
container commit|container cp|container rename|container exists|container prune
secret create|secret ls|secret inspect|secret rm|secret exists
volume create|volume ls|volume inspect|volume rm|volume prune|volume exists|volume profiles
snapshot create|snapshot ls|snapshot rm|rollback|clone
system init|system info|system df|system check|system rebuild|system reset
info version completion help
"""


def list_promised() -> list[str]:
    found = []
    for line in PROMISED.strip().splitlines():
        found += line.split("|") if "|" in line else line.split()
    return found


@pytest.mark.parametrize("path", list_promised())
def test_every_promised_command_is_there(path: str) -> None:
    command = find_command(path)
    assert command is not None
    assert path in command.paths


def test_index_and_tables_name_the_same_commands() -> None:
    in_tables = {path: table for table in TABLES for command in load(table)
                 for path in command.paths}  # fmt: skip
    assert in_tables == MODULES


def test_groups_have_commands_and_defaults_exist() -> None:
    for group in GROUPS:
        assert any(path.startswith(f"{group} ") for path in MODULES)
    for path in GROUP_DEFAULTS.values():
        assert find_command(path) is not None


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: command.name)
def test_a_table_is_sound(command: Command) -> None:
    names = [name for option in command.options for name in option.names]
    assert len(names) == len(set(names)), "two options share a name"
    keys = [option.key for option in command.options]
    assert len(keys) == len(set(keys)), "two options share a key"
    reserved = {option.key for option in GLOBAL_OPTIONS}
    assert not reserved & set(keys), "an option hides a global one"
    for option in command.options:
        assert option.kind in KINDS
        assert option.help, option.names
        assert not option.help.endswith(".")
        assert bool(option.metavar) == option.takes_value, option.names
        for name in option.names:
            assert name.startswith("--") or len(name) == 2
        if option.choices and option.default is not None:
            assert option.default in option.choices
    assert command.summary
    assert command.most is None or command.least <= command.most
    assert bool(command.usage) == (command.most != 0), "usage and number of arguments disagree"


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: command.name)
def test_the_handler_of_a_command_exists(command: Command) -> None:
    """Read, not imported: a handler's module may import the engine."""
    module, _, function = command.handler.partition(":")
    with open(f"{TOP}/strata/cli/handlers/{module}.py", encoding="utf-8") as file:
        tree = ast.parse(file.read())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert [argument.arg for argument in functions[function].args.args] == [
        "context",
        "options",
        "arguments",
    ]


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: command.name)
def test_every_help_names_its_options_and_fits_the_screen(command: Command) -> None:
    text = help.render_command(command)
    assert max(len(line) for line in text.splitlines()) <= 110
    for option in command.options:
        for name in option.names:
            assert name in text


def test_help_lists_the_forms_of_a_network() -> None:
    command = find_command("run")
    assert command is not None
    text = " ".join(help.render_command(command).split())
    assert "bridge, host, none, container:NAME, ns:PATH or pasta[:OPTIONS]" in text


def test_top_and_group_help_leave_hidden_commands_out() -> None:
    assert "__complete" not in help.render_top()
    assert "cleanup" not in help.render_group("container")
    assert "rollback" in help.render_top()


def test_the_reference_in_the_documents_is_current() -> None:
    with open(f"{TOP}/docs/commands.md", encoding="utf-8") as file:
        written = file.read()
    assert written == reference.render(), "run: python -m strata.cli.reference > docs/commands.md"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["rm"], ["rm", "rmi"]),
        (["volume", "pr"], ["profiles", "prune"]),
        (["--root", "/x", "vers"], ["version"]),
        (["run", "--pull", "m"], ["missing"]),
        (["run", "--pull=n"], ["--pull=never", "--pull=newer"]),
        (["run", "--net", ""], ["host", "none"]),
        (["run", "--env-file", ""], [":files"]),
        (["run", "-it", "debian", "--"], [":files"]),
        (["system", "init", "--dri"], ["--driver"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["completion", "bash", ""], []),
        (["--", "snapshot", "l"], ["list", "ls", ":nospace"]),
        (["nonsense", ""], []),
    ],
)
def test_completion_answers_from_the_tables(words: list[str], expected: list[str]) -> None:
    assert completion.list_candidates(words, None) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_asks_strata(shell: str) -> None:
    assert "strata __complete --" in completion.SCRIPTS[shell]


def test_a_command_has_a_manual_page_under_each_of_its_names() -> None:
    pages = man.render_pages()
    for command in list_commands():
        if command.hidden:
            continue
        for option in command.options:
            if not option.hidden:
                assert man.escape(option.names[0]) in pages[man.page_name(command.name)]
        for path in command.paths[1:]:
            assert pages[man.page_name(path)] == f".so man1/{man.page_name(command.name)}\n"


def test_no_text_of_a_manual_page_is_a_request_of_roff() -> None:
    assert man.escape(".x\n'y\\n -") == "\\&.x\n\\(aqy\\en \\-"
    known = (".TH", ".SH", ".TP", ".br", ".nf", ".fi", ".so", ".B")
    for name, page in man.render_pages().items():
        for line in page.splitlines():
            assert not line.startswith("'"), name
            assert not line.startswith(".") or line.split()[0] in known, (name, line)


def _read_surface() -> podman.Surface:
    with open(f"{TOP}/tools/podman-surface.txt", encoding="utf-8") as file:
        return podman.read_surface(file.read())


def test_nothing_of_podman_is_missing_without_a_reason() -> None:
    without = [path for path, _ in _read_surface()
               if podman.judge_command(path) == (podman.ABSENT, "")]  # fmt: skip
    without += [
        f"{path} {names[-1]}"
        for path, options in _read_surface()
        if podman.judge_command(path)[0] != podman.ABSENT
        for names in options
        if podman.judge_option(path, names) == (podman.ABSENT, "")
    ]
    assert without == []


def test_no_reason_is_kept_for_what_is_here() -> None:
    stale = []
    for path, options in _read_surface():
        command = podman.BEFORE if path == podman.TOP else find_command(path)
        if command is None:
            continue
        if unavailable.find_command_reason(path):
            stale.append(path)
        stale += [
            f"{path} {name}"
            for names in options
            for name in names
            if command.find(name) is not None
            and unavailable.find_option_reason("" if path == podman.TOP else path, name)
        ]
    assert stale == []


def test_options_before_a_command_are_completed() -> None:
    assert "error" in completion.list_candidates(["--log-level", ""], None)
    assert "--log-level" in completion.list_candidates(["--lo"], None)
    assert "--format" in completion.list_candidates(["-l", "debug", "ps", "--fo"], None)
