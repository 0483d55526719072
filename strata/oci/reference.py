"""Image references: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``.

The grammar is the distribution project's; short names are completed the way Docker does
(``debian`` means ``docker.io/library/debian:latest``). The first component names a registry only
if it holds a dot or a colon, has capitals, or is ``localhost``. Parsed by hand: this is on the
path of every command that names an image, and compiling patterns costs more than the parse.
"""

from __future__ import annotations

from strata.errors import UsageError
from strata.oci import digest as digests

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
LOCAL_REGISTRY = "localhost"
NAME_LIMIT = 255
TAG_LIMIT = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_HEX = frozenset("0123456789abcdef")
_SEPARATORS = frozenset(("", ".", "_", "__"))


class InvalidReference(UsageError):
    """The text is not an image reference."""

    id = "invalid-reference"


class Reference:
    """A parsed reference; never changed after parsing.

    ``registry`` is the host as written in references (``docker.io``, ``localhost:5000``),
    ``repository`` the path below it (``library/debian``). ``tag`` is ``latest`` when neither tag
    nor digest was written and empty when only a digest was. ``digest`` is ``algorithm:hex`` or "".
    """

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str = "", digest: str = "") -> None:
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @property
    def repository_name(self) -> str:
        """Registry and repository: ``docker.io/library/debian``."""
        return f"{self.registry}/{self.repository}"

    @property
    def name(self) -> str:
        """The full form: ``docker.io/library/debian:latest``."""
        return self.repository_name + self._suffix()

    @property
    def familiar(self) -> str:
        """The form a person would type: ``debian:latest``."""
        short = self.repository.removeprefix("library/")
        head = self.repository.partition("/")[0]
        if self.registry != DEFAULT_REGISTRY or ("/" in short and _looks_like_registry(head)):
            return self.name
        # library/a/b is not what a/b means.
        return (self.repository if "/" in short else short) + self._suffix()

    def with_digest(self, digest: str) -> Reference:
        """The same repository by digest alone: what a name@digest entry records."""
        return Reference(self.registry, self.repository, "", digest)

    def _suffix(self) -> str:
        suffix = f":{self.tag}" if self.tag else ""
        return f"{suffix}@{self.digest}" if self.digest else suffix

    def __str__(self) -> str:
        return self.familiar

    def __repr__(self) -> str:
        return f"Reference({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def parse(text: str) -> Reference:
    """Parse and complete a reference as a user writes it; raise `InvalidReference`."""
    registry, repository, tag, digest = _split(text)
    if not registry:
        registry = DEFAULT_REGISTRY
    return _build(text, registry, repository, tag, digest)


def local_candidates(text: str) -> list[str]:
    """The full names a reference may have in the local store, best first.

    A short name may be a local build (``localhost/x``) or come from the default registry; a name
    with a registry means only itself. Raises `InvalidReference`.
    """
    registry, repository, tag, digest = _split(text)
    if registry:
        return [_build(text, registry, repository, tag, digest).name]
    choices = (LOCAL_REGISTRY, DEFAULT_REGISTRY)
    return [_build(text, choice, repository, tag, digest).name for choice in choices]


def find_id_prefix(text: str) -> str | None:
    """The hex digits if the text may be an image id or a prefix of one, else None.

    Accepts ``sha256:`` before it, as listings with untruncated ids print it. A name such as
    ``cafe`` is both: look for names first.
    """
    digits = text.removeprefix("sha256:")
    if 0 < len(digits) <= 64 and _HEX.issuperset(digits):
        return digits
    return None


def _split(text: str) -> tuple[str, str, str, str]:
    """Split into registry ("" when none was written), repository, tag and digest, unchecked."""
    rest = text.removeprefix("docker://")
    if not rest or rest != rest.strip():
        raise InvalidReference(
            f"invalid reference format: {_show(text)}",
            hint="an image is named [REGISTRY/]REPOSITORY[:TAG][@DIGEST], for example debian:12",
        )
    if rest.lower().startswith(("http://", "https://")):
        raise InvalidReference(
            f"invalid reference format: {_show(text)}",
            hint="leave out http:// or https://, a reference starts with the host name",
        )
    if len(rest) == 64 and _HEX.issuperset(rest):
        raise InvalidReference(
            f"invalid repository name ({rest}), cannot specify 64-byte hexadecimal strings",
            hint="64 hexadecimal digits are an image id; here a name is needed",
        )
    rest, at, digest = rest.partition("@")
    if at:
        try:
            digests.parse(digest)
        except digests.InvalidDigest as error:
            raise InvalidReference(
                f"invalid reference format: {error.message}", hint=error.hint
            ) from None
    head, slash, tail = rest.partition("/")
    registry = ""
    if slash and _looks_like_registry(head):
        registry, rest = head, tail
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, ""
    elif not _is_tag(tag):
        raise InvalidReference(
            f"invalid reference format: {_show(text)}",
            hint="a tag is up to 128 letters, digits, dots, underscores and dashes",
        )
    if not tag and not digest:
        tag = DEFAULT_TAG
    return registry, repository, tag, digest


def _build(text: str, registry: str, repository: str, tag: str, digest: str) -> Reference:
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if repository != repository.lower() and _is_repository(repository.lower()):
        raise InvalidReference(
            "invalid reference format: repository name must be lowercase",
            hint=f"write {_show(text.lower())}" if not tag or tag == tag.lower() else
            f"write the part before the tag in lower case: {_show(text)}",
        )  # fmt: skip
    if not _is_registry(registry) or not _is_repository(repository):
        raise InvalidReference(
            f"invalid reference format: {_show(text)}",
            hint="an image is named [REGISTRY/]REPOSITORY[:TAG][@DIGEST], for example debian:12",
        )
    if len(registry) + 1 + len(repository) > NAME_LIMIT:
        raise InvalidReference(
            f"repository name must not be more than {NAME_LIMIT} characters",
            hint="choose a shorter name",
        )
    return Reference(registry, repository, tag, digest)


def _looks_like_registry(head: str) -> bool:
    """Whether the part before the first slash names a registry rather than a path."""
    return "." in head or ":" in head or head == LOCAL_REGISTRY or head != head.lower()


def _is_tag(text: str) -> bool:
    if not 0 < len(text) <= TAG_LIMIT or text[0] not in _WORD:
        return False
    return all(char in _WORD or char in ".-" for char in text)


def _is_registry(text: str) -> bool:
    """A host name, IPv4 address or bracketed IPv6 address with an optional port."""
    host, port = text, None
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or not host or not all(c in "0123456789abcdefABCDEF:." for c in host):
            return False
        return not after or (after[0] == ":" and _is_port(after[1:]))
    if ":" in text:
        host, _, port = text.partition(":")
    if port is not None and not _is_port(port):
        return False
    for part in host.split("."):
        if not part or part[0] == "-" or part[-1] == "-":
            return False
        if not all(char in _ALNUM or char == "-" for char in part):
            return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _is_repository(text: str) -> bool:
    return all(_is_component(part) for part in text.split("/"))


def _is_component(text: str) -> bool:
    """Runs of ``[a-z0-9]`` joined by one dot, one or two underscores, or any number of dashes."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    between = ""
    for char in text:
        if char in _LOWER:
            if between not in _SEPARATORS and between.strip("-"):
                return False
            between = ""
        elif char in "._-":
            between += char
        else:
            return False
    return True


def _show(text: str) -> str:
    """The user's text for a message: one line, printable, bounded."""
    return ascii(text) if len(text) <= 300 else ascii(text[:300]) + "…"
