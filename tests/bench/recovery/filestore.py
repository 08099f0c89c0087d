"""Copies of a filestore, full, unchanged and with one file of a hundred changed, against restic to the same store."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.harness import Figure
from tests.bench.recovery.scene import Scene
from tests.seaweed import WRITER
from tests.worker import Done, result_of, start

ROUNDS = 3
STEPS = {"full": "ratio <= 1.0", "unchanged": "ratio <= 0.35", "changed": "ratio <= 0.5"}
MEDIAN_BYTES = 20_000
SPREAD = 1.3
LARGEST_BYTES = 20_000_000
MEGABYTE = 1_000_000
MOST_MEGABYTES = 300


def measure(scene: Scene) -> Iterator[Figure]:
    """Yield the figures: of the copy, which a job makes beside others, and of a process that does nothing else."""
    restic = shutil.which("restic")
    if restic is None:
        print("restic is not installed (the package of that name): its figures are left out.", file=sys.stderr)
        return
    root = scene.folder / "filestore"
    chance = random.Random(1)
    for _ in range(scene.file_count):
        _add(root, chance)
    ours: dict[str, list[float]] = {name: [] for name in STEPS}
    theirs: dict[str, list[float]] = {name: [] for name in STEPS}
    works: dict[str, list[float]] = {name: [] for name in STEPS}
    peaks: list[int] = []
    for number in range(ROUNDS):
        environment = _restic_environment(scene, number=number)
        subprocess.run([restic, "init", "--quiet"], env=environment, check=True)
        for name in STEPS:
            if name == "changed":
                _change(root, chance, count=scene.file_count // 100)
            took, done = _copied(scene, root, label=f"{number}-{name}", prefix=f"shop/round-{number}")
            ours[name].append(took)
            works[name].append(done.seconds)
            peaks.append(done.peak_bytes)
            began = time.perf_counter()
            subprocess.run([restic, "backup", "--quiet", str(root)], env=environment, check=True)
            theirs[name].append(time.perf_counter() - began)
    for name, aim in STEPS.items():
        yield Figure(f"filestore_{name}", min(works[name]), "s", min(theirs[name]), aim=aim)
        yield Figure(f"filestore_{name}_process", min(ours[name]), "s", min(theirs[name]))
    most = max(peaks) / MEGABYTE
    yield Figure("filestore_peak", most, "MB", MOST_MEGABYTES, aim=f"value <= {MOST_MEGABYTES}")


def _copied(scene: Scene, root: Path, *, label: str, prefix: str) -> tuple[float, Done]:
    """Copy the filestore, and return how many seconds the whole process took, and what it says of its work."""
    order = scene.order(
        "copy_filestore",
        label=label,
        prefix=prefix,
        recipient=scene.keys.recipient,
        identity=scene.index_keys.identity,
        folder=str(root),
    )
    began = time.perf_counter()
    done = result_of(start(order))
    return time.perf_counter() - began, done


def _add(root: Path, chance: random.Random) -> None:
    """Write a file as Odoo keeps it: half are pictures and archives, which do not pack, half text, which does."""
    size = min(LARGEST_BYTES, 1 + int(chance.lognormvariate(0, SPREAD) * MEDIAN_BYTES))
    content = chance.randbytes(size)
    if chance.random() < 0.5:
        content = content[: size // 4].hex().encode() * 2
    name = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    folder = root / name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _change(root: Path, chance: random.Random, *, count: int) -> None:
    """Replace files by others: a content that changes has another name."""
    for path in chance.sample(sorted(path for path in root.rglob("*") if path.is_file()), count):
        path.unlink()
        _add(root, chance)


def _restic_environment(scene: Scene, *, number: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "RESTIC_REPOSITORY": f"s3:{scene.endpoint}/backups/restic-{number}",
        "RESTIC_PASSWORD": scene.keys.identity,
        "RESTIC_CACHE_DIR": str(scene.folder / "cache"),
        "AWS_ACCESS_KEY_ID": WRITER[0],
        "AWS_SECRET_ACCESS_KEY": WRITER[1],
    }
