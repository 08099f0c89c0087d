"""One piece of recovery's work in a process of its own, whose memory is its own: `python -m tests.worker`.

Reads an order as JSON from standard input and answers with seconds, peak memory and what it found, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from recovery.adapters.filestore import FolderSource, StoredFilestores
from recovery.adapters.postgres.base import observe_base_backup, take_base_backup
from recovery.adapters.postgres.programs import Programs, find_programs
from recovery.adapters.postgres.restoring import restore
from recovery.adapters.postgres.sandbox import tear_down
from recovery.adapters.postgres.wal import observe_archive
from tests.seaweed import open_s3

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, and with what. `store` is the address of the store; the rest depends on the work."""

    work: str
    store: str
    prefix: str
    label: str
    programs: str = ""
    url: str = ""
    recipient: str = ""
    identity: str = ""
    folder: str = ""
    at: str = ""
    database: str = "postgres"
    statement: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: the work alone is timed, the memory is that of the whole process."""

    seconds: float
    peak_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


def start(order: Order) -> subprocess.Popen[str]:
    """Start the work; `result_of` waits for it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.worker"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    with child.stdin as orders:
        json.dump(asdict(order), orders)
    return child


def result_of(child: subprocess.Popen[str]) -> Done:
    assert child.stdout is not None
    with child.stdout as pipe:
        said = pipe.read()
    assert child.wait() == 0, said
    return Done(**json.loads(said))


def _base_backup(order: Order) -> dict[str, Any]:
    base = take_base_backup(
        url=order.url,
        programs=_programs(order),
        store=open_s3(order.store),
        prefix=order.prefix,
        label=order.label,
        recipients=[order.recipient],
    )
    return {"content_bytes": base.content_bytes, "stored_bytes": base.stored_bytes}


def _restore(order: Order) -> dict[str, Any]:
    store = open_s3(order.store)
    base = observe_base_backup(store, prefix=order.prefix, label=order.label)
    archive = observe_archive(
        store, prefix=order.prefix, system_identifier=base.system_identifier, segment_bytes=base.segment_bytes
    )
    restored = restore(
        store=store,
        base=base,
        archive=archive,
        at=datetime.fromisoformat(order.at),
        identities=[order.identity],
        parent=Path(order.folder),
        run_id="measured",
        programs=_programs(order),
        role="postgres",
    )
    with psycopg.connect(make_conninfo(restored.url, dbname=order.database)) as connection:
        row = connection.execute(order.statement.encode()).fetchone()
    return {
        "answer": row[0] if row else None,
        "unpack": restored.facts.unpack_seconds,
        "replay": restored.facts.replay_seconds,
    }


def _copy_filestore(order: Order) -> dict[str, Any]:
    archive = StoredFilestores(
        open_s3(order.store), prefix=order.prefix, recipients=[order.recipient], index_identity=order.identity
    )
    done = archive.ensure_copy(point=order.label, source=FolderSource(Path(order.folder)), at=datetime.now(tz=UTC))
    return {"copied_count": done.copied_count, "kept_count": done.kept_count}


WORK: dict[str, Callable[[Order], dict[str, Any]]] = {
    "base_backup": _base_backup,
    "restore": _restore,
    "copy_filestore": _copy_filestore,
}


def _programs(order: Order) -> Programs:
    return find_programs(major=17, folders=[order.programs])


def _peak_bytes() -> int:
    """Return this process's own peak: what getrusage says also counts the process that it was started from."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    order = Order(**json.load(sys.stdin))
    began = time.perf_counter()
    facts = WORK[order.work](order)
    took = time.perf_counter() - began
    print(json.dumps(asdict(Done(seconds=took, peak_bytes=_peak_bytes(), facts=facts))), flush=True)
    if order.work == "restore":
        tear_down(Path(order.folder), run_id="measured")


if __name__ == "__main__":
    main()
