from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol.adapters.object_store import open_store
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.programs import observe_server
from recovery.adapters.postgres.wal import observe_archive, open_wal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
KEY = make_key_pair()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("source"), durable=False).start()
    yield server
    server.destroy()


def archive_wal(server: Postgres, folder: Path, *, slot: str, recipient: str = KEY.recipient) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "archive_wal", "--database=env:SOURCE", f"--slot={slot}"]
    command += ["--prefix=shop/production", f"--folder={folder}/wal", f"--recipient={recipient}"]
    environment = {
        **os.environ,
        "SOURCE": server.superuser_url,
        "OBJECT_STORE_URL": f"file://{folder}/objects",
        "POSTGRES_PROGRAMS": str(server.tool("pg_receivewal").parent),
        "LOG_LEVEL": "INFO",
    }
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_command_archives_until_stopped_and_leaves_no_receiver(server: Postgres, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/objects")
    child = archive_wal(server, tmp_path, slot="by_command")
    found = observe_server(server.superuser_url)
    of_system: Any = {"system_identifier": found.system_identifier, "segment_bytes": found.segment_bytes}
    ends_at = time.monotonic() + 60
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        while not (archive := observe_archive(store, prefix="shop/production", **of_system)).objects:
            assert time.monotonic() < ends_at
            assert child.poll() is None
            connection.execute("SELECT pg_log_standby_snapshot()")
            time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=30)
        active = connection.execute("SELECT active FROM pg_replication_slots WHERE slot_name = 'by_command'").fetchone()
        connection.execute("SELECT pg_drop_replication_slot('by_command')")

    assert child.returncode == 0, said
    assert active == (False,)
    assert open_wal(store, archive.objects[0], archive=archive, identities=[KEY.identity])
    assert "wal.shipped" in said
    assert str(psycopg.conninfo.conninfo_to_dict(server.superuser_url)["password"]) not in said


def test_wrong_recipient_is_a_sentence_and_makes_no_slot(server: Postgres, tmp_path: Path) -> None:
    child = archive_wal(server, tmp_path, slot="refused", recipient="age1nobody")
    said, _ = child.communicate(timeout=60)

    with psycopg.connect(server.superuser_url) as connection:
        slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
    assert child.returncode == 1
    assert "An age recipient is" in said
    assert slots == []
