"""Records: one JSON file per object, and the index of names.

    records/
      containers/<id>.json   images/<id>.json   layers/<id>.json   volumes/<id>.json
      networks/<id>.json     trash/<id>.json    journal/<operation>.json
      names/container/<name> -> <id>      names/volume/<name> -> <id>
      names/image/<name>     -> <id>      names/chain/<hex>   -> <layer id>

A name is a symbolic link whose text is the id: made in one step that fails when the name is
taken, read in one step, replaced by rename. So two commands that race for a name need no lock to
have one winner. A name that points to no record and whose object nobody holds locked is left
over from a killed command and gives way.

A record carries ``schema`` (the format version) and ``kind``. A newer schema is refused. What is
read back is checked for the shape the engine relies on: a record is a file on disk, and files on
disk are proposals.
"""

from __future__ import annotations

import os

from strata import trace
from strata.errors import AlreadyExists, NotFound, RecordError, UsageError
from strata.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from strata.store.files import Record

SCHEMA = 1
KINDS = {"container": "containers", "image": "images", "layer": "layers", "volume": "volumes",
         "network": "networks"}  # fmt: skip
FOLDERS = (*KINDS.values(), "trash", "journal")
NAME_KINDS = ("container", "volume", "image", "chain", "network")
_HEX = frozenset("0123456789abcdef")
_REQUIRED: dict[str, tuple[tuple[str, type], ...]] = {
    "container": (("name", str), ("dataset", str), ("config", dict), ("state", dict)),
    "image": (("layers", list), ("config", dict)),
    "layer": (("chain_id", str), ("diff_id", str)),
    "volume": (("name", str), ("dataset", str)),
    "network": (
        ("name", str),
        ("driver", str),
        ("interface", str),
        ("subnets", list),
        ("options", dict),
        ("routes", list),
    ),
}


def is_id(text: str) -> bool:
    """Whether the text could be an id or a prefix of one: lowercase hexadecimal."""
    return 0 < len(text) <= 64 and _HEX.issuperset(text)


def new_id(digits: int = 64) -> str:
    """A random id of that many hexadecimal digits."""
    return os.urandom(digits // 2).hex()


def check_shape(record: Record, kind: str, where: str) -> Record:
    """Return the record when it is one of ``kind`` that this version can read."""
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(
            f"the record {where} was written by a newer Strata (schema {schema})",
            hint="install that version or a later one",
        )
    fine = schema == SCHEMA and record.get("kind") == kind and isinstance(record.get("id"), str)
    if fine and is_id(record["id"]):
        wanted = _REQUIRED[kind]
        fine = all(isinstance(record.get(key), of_type) for key, of_type in wanted)
    else:
        fine = False
    if not fine:
        raise RecordError(
            f"the record {where} is not a valid {kind} record",
            hint="`strata system check --repair` restores it from the dataset's own copy",
        )
    return record


class Records:
    """The records below one directory. Cheap to make; reads nothing by itself."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def ensure_layout(self) -> None:
        """Make the directories. Idempotent; called by ``system init`` and ``rebuild``."""
        for name in FOLDERS:
            os.makedirs(f"{self.folder}/{name}", 0o700, exist_ok=True)
        for name in NAME_KINDS:
            os.makedirs(f"{self.folder}/names/{name}", 0o700, exist_ok=True)

    # -- records -------------------------------------------------------------------------------

    def path(self, kind: str, object_id: str) -> str:
        """The file of a record."""
        return f"{self.folder}/{KINDS[kind]}/{object_id}.json"

    def save(self, record: Record, *, durable: bool = True) -> None:
        """Write a record under its kind and id."""
        path = self.path(record["kind"], record["id"])
        try:
            files.write_json(path, record, durable=durable)
        except FileNotFoundError:
            # A store older than this kind of record.
            self.ensure_layout()
            files.write_json(path, record, durable=durable)

    def find(self, kind: str, object_id: str) -> Record | None:
        """Read one record by its full id, None when absent."""
        path = self.path(kind, object_id)
        try:
            return check_shape(files.read_json(path), kind, path)
        except FileNotFoundError:
            return None

    def get(self, kind: str, object_id: str) -> Record:
        """Read one record by its full id; `NotFound`."""
        record = self.find(kind, object_id)
        if record is None:
            raise NotFound(f"no {kind} with id {object_id[:12]}")
        return record

    def delete(self, kind: str, object_id: str) -> None:
        """Remove a record. Idempotent."""
        try:
            os.unlink(self.path(kind, object_id))
        except FileNotFoundError:
            pass

    def list_ids(self, kind: str) -> list[str]:
        """Ids of all records of a kind, in no order."""
        folder = f"{self.folder}/{KINDS[kind]}"
        try:
            return [name[:-5] for name in os.listdir(folder) if files.is_record(name)]
        except FileNotFoundError:
            return []  # a store older than this kind of record

    def list_records(self, kind: str) -> Iterator[Record]:
        """All readable records of a kind; damaged ones are left to ``system check``."""
        for object_id in self.list_ids(kind):
            try:
                record = self.find(kind, object_id)
            except RecordError:
                continue
            if record is not None:
                yield record

    def match_prefix(self, kind: str, prefix: str) -> list[str]:
        """Ids that start with ``prefix``."""
        return [object_id for object_id in self.list_ids(kind) if object_id.startswith(prefix)]

    # -- names ---------------------------------------------------------------------------------

    def _name_path(self, kind: str, name: str) -> str:
        if name in ("", ".", "..") or "\0" in name:
            raise UsageError(f"invalid name {name!r}")
        return f"{self.folder}/names/{kind}/{name.replace('%', '%25').replace('/', '%2F')}"

    def find_name(self, kind: str, name: str) -> str | None:
        """The id a name stands for, or None."""
        try:
            return os.readlink(self._name_path(kind, name))
        except (FileNotFoundError, OSError):
            return None

    def take_name(self, kind: str, name: str, object_id: str) -> None:
        """Give a free name to an object; `AlreadyExists` with the holder's id otherwise."""
        path = self._name_path(kind, name)
        try:
            try:
                os.symlink(object_id, path)
            except FileNotFoundError:
                self.ensure_layout()
                os.symlink(object_id, path)
        except FileExistsError:
            holder = self.find_name(kind, name) or "?"
            raise AlreadyExists(
                f"the {kind} name {name!r} is already in use by {holder[:12]}",
                hint=f"remove or rename that {kind}, or choose another name",
            ) from None
        trace.point("name:taken")

    def set_name(self, kind: str, name: str, object_id: str) -> None:
        """Point a name to an object, whoever had it before."""
        path = self._name_path(kind, name)
        temporary = f"{self.folder}/names/{kind}/{files.TEMPORARY}{os.getpid()}-{new_id(8)}"
        os.symlink(object_id, temporary)
        os.rename(temporary, path)

    def drop_name(self, kind: str, name: str, object_id: str | None = None) -> None:
        """Free a name (only if it stands for ``object_id``, when given). Idempotent."""
        if object_id is not None and self.find_name(kind, name) != object_id:
            return
        try:
            os.unlink(self._name_path(kind, name))
        except FileNotFoundError:
            pass

    def list_names(self, kind: str) -> dict[str, str]:
        """All names of a kind and the ids they stand for."""
        folder = f"{self.folder}/names/{kind}"
        found: dict[str, str] = {}
        try:
            listed = os.listdir(folder)
        except FileNotFoundError:
            return found
        for encoded in listed:
            if encoded.startswith(files.TEMPORARY):
                continue
            name = encoded.replace("%2F", "/").replace("%25", "%")
            try:
                found[name] = os.readlink(f"{folder}/{encoded}")
            except OSError:
                continue
        return found

    # -- looking up what a user typed ------------------------------------------------------------

    def resolve(self, kind: str, text: str, *, noun: str | None = None) -> str:
        """The id for a name, a full id or an unambiguous prefix; `NotFound` in Podman's words."""
        noun = noun or kind
        if text:
            found = self.find_name(kind, text) if "\0" not in text and len(text) < 200 else None
            if found is not None and os.path.exists(self.path(kind, found)):
                return found
            if is_id(text):
                matches = self.match_prefix(kind, text)
                if len(matches) == 1:
                    return matches[0]
                if len(matches) > 1:
                    raise UsageError(
                        f"more than one {noun} has an id that starts with {text!r}",
                        hint="give more digits of the id",
                    )
        listing = {"container": "strata ps -a", "volume": "strata volume ls",
                   "network": "strata network ls"}.get(kind)  # fmt: skip
        sentences = {
            "container": f"no container with name or ID {text!r} found: no such container",
            "network": f'unable to find network with name or ID "{text}": network not found',
        }
        raise NotFound(
            sentences.get(noun, f"no such {noun}: {text!r}"),
            hint=f"`{listing}` lists them" if listing else "",
        )  # fmt: skip
