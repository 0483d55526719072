"""Shell completion: small scripts that ask strata itself, which answers from the tables.

``strata __complete WORD...`` prints the candidates for the last word. Names of containers, images
and volumes come from the store; where it cannot be read there are none, and never an error.
"""

from __future__ import annotations

from strata.cli.index import GROUP_DEFAULTS, GROUPS, MODULES, find_command, list_commands
from strata.cli.table import GLOBAL_OPTIONS, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from strata.cli.context import Context

_BASH = """\
_strata() {
    local word="${COMP_WORDS[COMP_CWORD]}" line kind=
    local -a words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cword
        _get_comp_words_by_ref -n =: -w words -i cword -c word
        words=("${words[@]:1:cword}")
    fi
    while IFS= read -r line; do
        case $line in
            :files) kind=-f ;;
            :dirs) kind=-d ;;
            :nospace) compopt -o nospace 2>/dev/null ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <(strata __complete -- "${words[@]}" 2>/dev/null)
    if [[ -n $kind ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen $kind -- "$word")
    fi
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$word"
    return 0
}
complete -F _strata strata
"""

_ZSH = """\
#compdef strata
_strata() {
    local -a lines plain
    lines=("${(@f)$(strata __complete -- "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)}")
    plain=("${(@)lines:#:*}")
    plain=("${(@)plain:#}")
    (( ${#plain} )) && compadd -- "${plain[@]}"
    [[ " ${lines[*]} " == *" :files "* ]] && _files
    [[ " ${lines[*]} " == *" :dirs "* ]] && _files -/
    return 0
}
compdef _strata strata
"""

_FISH = """\
function __strata_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (strata __complete -- $words[2..] $current 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path $current
            case :dirs
                __fish_complete_directories $current
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c strata -f -a '(__strata_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_FILES, _DIRECTORIES = ":files", ":dirs"


def list_candidates(words: list[str], context: Context | None) -> list[str]:
    """Return the candidates for the last of ``words`` (all words after ``strata``).

    ``:files`` and ``:dirs`` ask the shell for paths.
    """
    if words and words[0] == "--":
        words = words[1:]
    *before, last = words or [""]
    found = _list(before, last, context)
    return [word for word in dict.fromkeys(found) if word.startswith((last, ":"))]


def _list(before: list[str], last: str, context: Context | None) -> list[str]:
    rest = list(before)
    if not rest or rest[0].startswith("-"):
        from strata.cli.before import BEFORE

        while rest and rest[0].startswith("-"):
            word = rest.pop(0)
            option = _find(BEFORE.options, word)
            if option is not None and option.takes_value and "=" not in word:
                if not rest:
                    return _list_values(option, context)
                rest.pop(0)
        if not rest:
            if last.startswith("-"):
                return [name for option in BEFORE.options for name in option.names]
            return _list_words("")
    if rest[0] in GROUPS:
        if len(rest) == 1 and rest[0] not in GROUP_DEFAULTS:
            return _list_words(rest[0])
        if len(rest) == 1:
            targets = [f"{name}@" for name in _list_names("target", context)]
            return [*_list_words(rest[0]), *targets, ":nospace"]
        command, rest = find_command(f"{rest[0]} {rest[1]}"), rest[2:]
    else:
        command, rest = find_command(rest[0]), rest[1:]
    return _list_for(command, rest, last, context) if command is not None else []


def _list_for(command: Command, before: list[str], last: str, context: Context | None) -> list[str]:
    """Return what may follow a command's name: options, an option's values, or arguments."""
    options = (*command.options, *GLOBAL_OPTIONS)
    arguments, waiting = 0, None
    for number, word in enumerate(before):
        if waiting is not None:
            waiting = None
        elif word == "--":
            arguments += len(before) - number - 1
            break
        elif word.startswith("-") and len(word) > 1:
            option = _find(options, word)
            if option is not None and option.takes_value and "=" not in word:
                waiting = option
        else:
            arguments += 1
    if waiting is not None:
        return _list_values(waiting, context)
    if arguments and not command.interspersed:
        return [_FILES]
    if last.startswith("-"):
        name, equals, _ = last.partition("=")
        if equals:
            option = _find(options, name)
            values = _list_values(option, context) if option is not None else []
            return [value if value[:1] == ":" else f"{name}={value}" for value in values]
        return [name for option in options if not option.hidden for name in option.names
                if name.startswith("--")]  # fmt: skip
    if command.most is not None and arguments >= command.most:
        return []
    return _list_names(command.complete, context)


def _list_words(group: str) -> list[str]:
    """Return the words that may follow ``strata`` or a group's name."""
    if not group:
        words = [path for path in MODULES if " " not in path] + list(GROUPS)
    else:
        words = [path.split()[1] for path in MODULES if path.startswith(f"{group} ")]
    hidden = {path.split()[-1] for command in list_commands() if command.hidden
              for path in command.paths}  # fmt: skip
    return sorted(set(words) - hidden)


def _list_values(option: Option, context: Context | None) -> list[str]:
    if option.choices:
        return [choice for choice in option.choices if choice]
    if option.complete == "network":
        return ["host", "none", *_list_names("network", context)]
    return _list_names(option.complete, context)


def _list_names(kind: str, context: Context | None) -> list[str]:
    """Return names from the store; none when it cannot be read."""
    if kind == "file":
        return [_FILES]
    if kind == "dir":
        return [_DIRECTORIES]
    if kind == "shell":
        return sorted(SCRIPTS)
    if kind == "command":
        return _list_words("")
    if not kind or context is None:
        return []
    try:
        return _read_names(kind, context)
    except Exception:
        return []


def _read_names(kind: str, context: Context) -> list[str]:
    names: list[str] = []
    if kind in ("container", "running", "object", "target"):
        from strata.engine.containers.listing import list_containers

        rows = list_containers(context.engine, all=kind != "running")
        names += [name for row in rows for name in row["Names"]]
    if kind in ("image", "object"):
        from strata.engine.images.listing import list_images

        for image in list_images(context.engine):
            for name in image["Names"]:
                names += [name, name.removeprefix("docker.io/library/").removeprefix("localhost/")]
    if kind == "pool":
        from strata.engine.pools import OWN

        names += [OWN, *context.engine.config.pools]
    if kind == "network":
        names += [record["name"] for record in context.engine.records.list_records("network")]
    if kind == "secret":
        from strata.engine.secrets import list_secrets

        names += [secret["Spec"]["Name"] for secret in list_secrets(context.engine)]
    if kind in ("volume", "object", "target"):
        from strata.engine.volumes.listing import list_volumes

        names += [volume["Name"] for volume in list_volumes(context.engine)]
    if kind == "snapshot":
        from strata.engine.history.snapshots import list_snapshots

        names += [f"{row['Target']}@{row['Name']}" for row in list_snapshots(context.engine)]
    if kind == "trash":
        from strata.engine.system.emptying import list_trash

        names += [row["Name"] for row in list_trash(context.engine)]
    if kind == "fork":
        from strata.engine.history.forks import list_forks

        names += [row["Name"] for row in list_forks(context.engine)]
    if kind == "operation":
        from strata.engine.history.restoring import list_operations

        names += [row["Operation"] for row in list_operations(context.engine)]
    if kind == "property":
        from strata.engine.limits import list_options

        names += [f"{name}=" for name in list_options()]
    if kind == "profile":
        from strata.engine.volumes.listing import profiles

        names += [profile["Name"] for profile in profiles()]
    return sorted(names)


def _find(options: tuple[Option, ...], name: str) -> Option | None:
    name = name.partition("=")[0]
    return next((option for option in options if name in option.names), None)
