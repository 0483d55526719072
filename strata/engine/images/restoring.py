"""Bringing back removed images and removed names of images from the trash."""

from __future__ import annotations

from strata import trace
from strata.engine import events
from strata.engine.core import Engine, Record
from strata.engine.images import verbs
from strata.errors import NotFound, UsageError
from strata.oci import reference as references
from strata.store.records import new_id


def bury_name(e: Engine, image: Record, gone: list[str]) -> None:
    """Let the trash remember names that an image lost while it has others."""
    removed = {"id": new_id(), "name": ", ".join(gone), "names": gone, "image": image["id"]}
    e.bury("name", removed, [], verb="rmi", keep=True)


def bring_back(e: Engine, entry: Record, name: str | None) -> Record:
    """Bring back an image, or a name of one; names that others have now stay theirs.

    With ``name`` the image is called that instead.
    """
    wanted = None
    if name is not None:
        if references.parse(name).digest:
            raise UsageError(f"{name}: a name cannot carry a digest")
        wanted = [references.local_candidates(name)[0]]
    with e.lock_images():
        found = e.trash.find(entry["id"])
        if found is None:
            raise NotFound(f"{entry['name'] or entry['id'][:12]} is not in the trash any more")
        removed = found["record"]
        names = wanted if wanted is not None else list(removed["names"])
        free = [text for text in names if _is_free(e, text)]
        if found["object"] == "name":
            image = e.records.find("image", removed["image"])
            if image is None:
                raise NotFound(f"{found['name']}: the image it named is not there",
                               hint="bring that back first: `strata trash ls`")  # fmt: skip
        else:
            image = {**removed, "names": []}
        image["names"] = sorted({*image["names"], *free})
        with e.journal.begin("restore", ["settle-image-restore", entry["id"]]):
            found["restoring"] = image
            e.trash.save(found)
            trace.point("restore:ready")
            finish(e, entry["id"])
    notes = [f"{text} is another image now" for text in names if text not in free]
    shown = ", ".join(free) or image["id"][:12]
    events.emit(e, events.IMAGE, "restore", id=image["id"], name=shown)
    return {"Kind": found["object"], "Name": shown, "Was": found["name"] or shown, "Notes": notes}


def _is_free(e: Engine, name: str) -> bool:
    holder = e.records.find_name("image", name)
    return holder is None or e.records.find("image", holder) is None


def finish(e: Engine, entry_id: str) -> None:
    """Write an image's record and names that its trash entry says come back. Idempotent."""
    entry = e.trash.find(entry_id)
    if entry is None or "restoring" not in entry:
        return
    image = entry["restoring"]
    verbs.save(e, image)
    trace.point("restore:recorded")
    for name in image["names"]:
        if _is_free(e, name):
            e.records.set_name("image", name, image["id"])
    e.trash.delete(entry_id)
