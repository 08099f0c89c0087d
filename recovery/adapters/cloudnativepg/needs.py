"""What of a source's definition a cluster that is recovered from it needs to begin at all. Pure.

Nothing by which the source archives, is reached, or is changed from outside is among it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recovery.adapters.cloudnativepg.fields import number_of, part_of, text_of

Body = Mapping[str, Any]

POD_NEEDS = (
    "affinity",
    "imagePullSecrets",
    "postgresGID",
    "postgresUID",
    "resources",
    "serviceAccountName",
    "serviceAccountTemplate",
)
"""What says where its pods may run, with how much, as whom, and how their image is pulled."""
NOT_BELOW = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)
"""Parameters of which a server that replays WAL may not have less than had the one that wrote it (PostgreSQL's manual,
"Hot Standby").

The operator looks at those of the base backup, and cannot know what the source was given since.
"""
ACT_BY_THEMSELVES = frozenset({"pg_cron", "pg_net", "pg_partman_bgw"})
"""Libraries whose workers act in a database unasked: in a copy that nobody has made harmless yet, they never begin."""
TEMPLATE = ("accessModes", "selector", "volumeAttributesClassName", "volumeMode")
"""What of a template of claims holds for another volume: not which volume it is, nor what is in it."""


def needs_of(spec: Body, status: Body) -> dict[str, Any]:
    """Return what a recovered cluster takes over, in the operator's words: a part of its definition."""
    needs = {name: spec[name] for name in POD_NEEDS if spec.get(name)}
    storage = volume_of(part_of(spec, "storage"))
    found = {
        "storage": {"pvcTemplate": storage["pvcTemplate"]} if "pvcTemplate" in storage else {},
        "walStorage": volume_of(part_of(spec, "walStorage")),
        "tablespaces": list(_tablespaces(spec)),
        "postgresql": _server(part_of(spec, "postgresql"), resolved=part_of(status, "pgDataImageInfo")),
    }
    return needs | {name: value for name, value in found.items() if value}


def volume_of(storage: Body) -> dict[str, Any]:
    """Return how large a volume is and of what class, also where a template of its claim says so."""
    template = part_of(storage, "pvcTemplate")
    size = storage.get("size") or part_of(template, "resources", "requests").get("storage")
    found = {
        "size": str(size or ""),
        "storageClass": text_of(storage, "storageClass") or text_of(template, "storageClassName"),
        "pvcTemplate": {name: template[name] for name in TEMPLATE if template.get(name)},
    }
    return {name: value for name, value in found.items() if value}


def image_of(spec: Body, status: Body) -> str:
    """Return the image as a definition may name it: with a version, which one of a catalog may lack."""
    image = text_of(status, "image") or text_of(spec, "imageName")
    major = number_of(part_of(spec, "imageCatalogRef").get("major"))
    named, _, digest = image.partition("@")
    repository, slash, last = named.rpartition("/")
    name, _, tag = last.partition(":")
    if not major or not digest or tag[:1].isdecimal():
        return image
    return f"{repository}{slash}{name}:{major}@{digest}"


def _tablespaces(spec: Body) -> Iterator[dict[str, Any]]:
    """Yield the tablespaces: a recovery wants exactly those of its source, a volume each."""
    for one in _items(spec, "tablespaces"):
        kept = {name: one[name] for name in ("name", "owner", "temporary") if one.get(name)}
        yield {**kept, "storage": volume_of(part_of(one, "storage"))}


def _server(server: Body, *, resolved: Body) -> dict[str, Any]:
    parameters, libraries = part_of(server, "parameters"), server.get("shared_preload_libraries")
    # Where the images of extensions come from a catalog, the operator says in the status which they are.
    images = {one.get("name"): one for one in _items(resolved, "extensions")}
    found = {
        "parameters": {name: parameters[name] for name in NOT_BELOW if name in parameters},
        "shared_preload_libraries": [
            one for one in (libraries if isinstance(libraries, list) else ()) if one not in ACT_BY_THEMSELVES
        ],
        "extensions": [{**images.get(one.get("name"), {}), **one} for one in _items(server, "extensions")],
    }
    return {name: value for name, value in found.items() if value}


def _items(body: Body, name: str) -> list[Body]:
    found = body.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
