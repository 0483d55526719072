"""Tables of the commands on secrets."""

from __future__ import annotations

from strata.cli.table import DOCUMENT_FORMAT, DRY_RUN, NO_HEADING, Command, Option

_FORMAT = Option("--format", "string", "json, or a Go template, as in '{{.Spec.Name}}'", "FORMAT")

COMMANDS = (
    Command(
        ("secret create",),
        "Keep a secret for containers",
        "secrets:create",
        "NAME [FILE|-]",
        1,
        2,
        (
            Option("--driver -d", "string", "Driver", "DRIVER", "file", choices=("file",)),
            Option("--env", "flag", "Take the value of the environment variable that FILE names"),
            Option("--ignore", "flag", "Do nothing when the secret exists"),
            Option("--label -l", "list", "Set a label", "KEY[=VALUE]"),
            Option("--replace", "flag", "Replace a secret of that name"),
        ),
        text=(
            "The value is read from a file, from standard input (-) or from the environment, "
            "never from\nthe command line. Containers made before keep what they have."
        ),
        examples=(
            "printf s3cret | strata secret create db-password -",
            "strata run -d --secret db-password,type=env,target=PASSWORD postgres:16",
        ),
        complete="file",
    ),
    Command(
        ("secret ls", "secret list"),
        "List secrets",
        "secrets:ls",
        options=(
            Option("--filter -f", "list", "Keep what matches: name=, id=", "KEY=VALUE"),
            _FORMAT,
            NO_HEADING,
            Option("--quiet -q", "flag", "Ids only"),
        ),
        text="Filters: name, id.",
    ),
    Command(
        ("secret inspect",),
        "Show what is known of secrets, and with --showsecret their values",
        "secrets:inspect",
        "SECRET [SECRET...]",
        1,
        None,
        (
            DOCUMENT_FORMAT,
            Option("--pretty", "flag", "Print for people"),
            Option("--showsecret", "flag", "Show the value too"),
        ),
        complete="secret",
    ),
    Command(
        ("secret rm", "secret remove"),
        "Remove secrets",
        "secrets:remove",
        "SECRET [SECRET...]",
        0,
        None,
        (
            Option("--all -a", "flag", "All secrets"),
            DRY_RUN,
            Option("--ignore -i", "flag", "Pass over those that do not exist"),
        ),
        text="Containers made with a secret keep their copies. A secret never goes to the trash.",
        complete="secret",
    ),
    Command(
        ("secret exists",),
        "Exit with 0 when a secret exists, 1 when it does not",
        "secrets:exists",
        "SECRET",
        1,
        1,
        complete="secret",
    ),
)
