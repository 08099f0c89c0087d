"""Writes `cloudnativepg/definitions.json`, the kinds of CloudNativePG. A development tool; the server never runs it.

The source is what the project publishes (Apache-2.0): the manifest of an operator's release, and the definition of its
plugin's ObjectStore. Run `python -m deployments.practice.make_definitions cnpg-X.Y.Z.yaml objectstores.yaml`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).with_name("cloudnativepg") / "definitions.json"
KINDS = ("Backup", "Cluster", "ObjectStore", "ScheduledBackup")
_LEFT_OUT = frozenset({"additionalPrinterColumns", "annotations", "x-kubernetes-validations"})


def compact_definitions(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the definitions of the kinds wanted, without prose and without rules in CEL."""
    wanted = [
        manifest
        for manifest in manifests
        if manifest.get("kind") == "CustomResourceDefinition" and manifest["spec"]["names"]["kind"] in KINDS
    ]
    return sorted((_compact(one) for one in wanted), key=lambda one: str(one["metadata"]["name"]))


def _compact(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _compact(entry)
            for key, entry in value.items()
            # A field may be called description: then what stands under it is a type.
            if key not in _LEFT_OUT and not (key == "description" and isinstance(entry, str))
        }
    return [_compact(entry) for entry in value] if isinstance(value, list) else value


def main(paths: list[str]) -> None:
    manifests = [one for path in paths for one in yaml.safe_load_all(Path(path).read_text()) if one]
    TARGET.write_text(json.dumps(compact_definitions(manifests), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
