"""A base backup whose tar somebody made: who may write in the store and knows the recipients can put any there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from changecontrol.errors import Permanent
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.fetching import fetch_copy
from recovery.adapters.postgres.packing import PackingWriter, UnpackingReader
from recovery.adapters.postgres.restoring import start_copy
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.adapters.streams import StreamReader, StreamWriter
from recovery.ports.postgres import BaseBackup, Latest
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until

pytestmark = pytest.mark.slow

PLACE = "postgresql.auto.conf"
"""A file that our programs write anew, and that `pg_verifybackup` passes over."""


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody else's beside the sandbox."""
    path = tmp_path / "somebody.key"
    path.write_text("AGE-SECRET-KEY of somebody else")
    path.chmod(0o600)
    return path


def is_untouched(victim: Path) -> bool:
    found = victim.stat()
    is_private = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_nlink) == (0o600, os.geteuid(), 1)
    return is_private and victim.read_text() == "AGE-SECRET-KEY of somebody else"


def made_over(source: Source, base: BaseBackup, *, put: Callable[[tarfile.TarFile], None]) -> BaseBackup:
    """Put another tar into the store, with something put into it, whose digest and size are told as they are."""
    with StreamReader(source.store, base.key) as stored:
        content = UnpackingReader(stored, identities=[KEY.identity])
        data = b"".join(iter(lambda: content.read(1 << 20), b""))
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            if member.name not in (PLACE, "tablespace_map"):
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        put(new)
    key = base.key.replace(base.label, "theirs")
    with StreamWriter(source.store, key) as stream:
        with PackingWriter(stream, recipients=[KEY.recipient]) as packing:
            packing.write(out.getvalue())
        kept = stream.close()
    return replace(base, label="theirs", key=key, sha256=kept.sha256, content_bytes=len(out.getvalue()))


def member(name: str, kind: bytes, *, leads_to: str = "", content: bytes = b"") -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, leads_to, len(content)
    return lambda tar: tar.addfile(info, io.BytesIO(content))


NOT_OURS = {
    "a link to a file": (PLACE, tarfile.SYMTYPE, "{victim}", b"", r"no plain file \(postgresql.auto.conf\)"),
    "a link to a folder": ("pg_logical/more", tarfile.SYMTYPE, "/etc", b"", r"no plain file \(pg_logical/more\)"),
    "a second name": (PLACE, tarfile.LNKTYPE, "PG_VERSION", b"", r"no plain file \((postgresql.auto.conf|PG_VERSION)"),
    "a pipe": ("pg_logical/pipe", tarfile.FIFOTYPE, "", b"", r"no plain file \(pg_logical/pipe\)"),
    "a device": ("pg_logical/disk", tarfile.BLKTYPE, "", b"", "Cannot mknod|no plain file"),
    "a name that leaves it": ("../../outside", tarfile.REGTYPE, "", b"", r"Member name contains '\.\.'"),
    "places of the source": ("tablespace_map", tarfile.REGTYPE, "", b"16384 /srv/fast\n", "server with tablespaces"),
}


@pytest.mark.parametrize("what", NOT_OURS)
def test_a_base_backup_with_what_is_no_plain_file_is_refused_before_anything_of_it_is_used(
    source: Source, archiver: WalArchiver, victim: Path, what: str
) -> None:
    name, kind, leads_to, content, told = NOT_OURS[what]
    base = source.back_up()
    ship_until(archiver, now_at(source))
    put = member(name, kind, leads_to=leads_to.format(victim=victim), content=content)
    theirs = made_over(source, base, put=put)

    with pytest.raises(Permanent, match=told):
        source.restore(theirs, at=Latest.LATEST)

    assert is_untouched(victim)
    assert not (source.runs / "outside").exists()
    assert list(source.runs.iterdir()) == []


def test_what_a_sandbox_writes_below_a_copy_follows_no_link(
    source: Source, archiver: WalArchiver, victim: Path
) -> None:
    base = source.back_up()
    ship_until(archiver, now_at(source))
    sandbox = make_sandbox(source.runs, run_id="linked")
    words = {"base": base, "at": Latest.LATEST, "programs": source.programs, "sandbox": sandbox}
    coverage = fetch_copy(store=source.store, archive=source.archive(), identities=[KEY.identity], **words)  # type: ignore[arg-type]
    of_the_data = (sandbox.data / PLACE, sandbox.data / "recovery.signal")
    for place in (*of_the_data, sandbox.folder / "postgresql.conf", sandbox.log):
        place.unlink(missing_ok=True)
        place.symlink_to(victim)

    restored = start_copy(**words, coverage=coverage, role=base.superuser)  # type: ignore[arg-type]
    with restored, psycopg.connect(restored.url) as connection:
        answer = connection.execute("SELECT 1").fetchone()

    assert answer == (1,)
    assert is_untouched(victim)
