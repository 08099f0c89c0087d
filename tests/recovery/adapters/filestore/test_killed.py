"""A copy or a restore that is killed at any moment leaves nothing that counts, and the next one finishes the work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from changecontrol.adapters.object_store import open_store
from recovery.adapters.filestore import FolderSource, StoredFilestores
from tests.recovery.adapters.filestore.scene import OWNER, WORKER, Filestore, restored

CLONE = Path(__file__).parents[4]
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from changecontrol.adapters.object_store import open_store
from recovery.adapters.filestore import FolderSource, StoredFilestores
verb, store, source, target, recipient, index_identity, identity = sys.argv[1:]
archive = StoredFilestores(
    open_store(store), prefix="acme/production", recipients=[recipient], index_identity=index_identity
)
now = datetime.now(UTC)
print("begins", flush=True)
copied = archive.ensure_copy(point="p1", source=FolderSource(Path(source)), at=now)
if verb == "restore":
    archive.ensure_restored(copied.point, target=Path(target), identity=identity)
print("ends", flush=True)
"""


@pytest.fixture
def filestore(tmp_path: Path) -> Filestore:
    made = Filestore(tmp_path / "filestore")
    made.grow(1500, most_bytes=60_000)
    return made


def archive_at(url: str) -> StoredFilestores:
    return StoredFilestores(
        open_store(url), prefix="acme/production", recipients=[OWNER.recipient], index_identity=WORKER.identity
    )


def run_for(seconds: float, *words: str) -> str:
    """Run the program and kill it so long after it began; return what it printed."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], cwd=CLONE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == "begins\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return first + rest


@pytest.mark.slow
def test_copy_that_is_killed_leaves_no_point_and_is_gone_on_from(filestore: Filestore, tmp_path: Path) -> None:
    chance = random.Random(3)
    url = f"file://{tmp_path}/store"
    keys = (OWNER.recipient, WORKER.identity, OWNER.identity)
    killed = 0

    for number in range(6):
        url = f"file://{tmp_path}/store{number}"
        printed = run_for(chance.uniform(0.0, 0.4), "copy", url, str(filestore.root), "", *keys)
        points = list((tmp_path / f"store{number}").rglob("points/*.files.zst.age"))
        killed += not points
        assert points or "ends" not in printed

        copied = archive_at(url).ensure_copy(point="p1", source=FolderSource(filestore.root), at=datetime.now(UTC))

        read = archive_at(url).observe_contents(copied.point, identity=OWNER.identity, named=list(filestore.files))
        assert copied.wrong == ()
        assert (read.file_count, read.findings) == (1500, ())
        assert archive_at(url).observe_damage(copied.point) == ()

    assert killed > 0


@pytest.mark.slow
def test_restore_that_is_killed_is_gone_on_with(filestore: Filestore, tmp_path: Path) -> None:
    chance = random.Random(4)
    url = f"file://{tmp_path}/store"
    keys = (OWNER.recipient, WORKER.identity, OWNER.identity)
    point = archive_at(url).ensure_copy(point="p1", source=FolderSource(filestore.root), at=datetime.now(UTC)).point
    killed = 0

    for number in range(5):
        target = tmp_path / f"new{number}"
        for _ in range(2):
            printed = run_for(chance.uniform(0.05, 0.3), "restore", url, str(filestore.root), str(target), *keys)
            if "ends" in printed:
                break
            killed += 1
            assert all(filestore.files[path] == data for path, data in restored(target).items() if path[0] != ".")
        if "ends" not in printed:
            read = archive_at(url).ensure_restored(point, target=target, identity=OWNER.identity)
            assert (read.file_count, read.findings) == (1500, ())
        assert restored(target) == filestore.files

    assert killed > 0
