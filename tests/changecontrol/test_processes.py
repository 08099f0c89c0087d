"""What processes hold and what folders take is measured as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from changecontrol.processes import family_of, memory_of, room_taken_by

MIB = 1024**2


def test_a_family_holds_what_its_members_started_in_sessions_of_their_own() -> None:
    inner = "import subprocess, sys; subprocess.run(['cat'], start_new_session=True)"
    child = subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x")
        child.stdin.flush()
        child.stdout.read(1)  # the inner one answers

        family = family_of(os.getpid())
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

    assert family[0] == os.getpid()
    assert child.pid in family
    assert len(family) >= 3
    assert family_of(child.pid) == [child.pid]  # it has ended, and so has what it started


def test_memory_is_what_a_process_really_holds() -> None:
    hold = "import sys; kept = b'x' * {count}; print(len(kept), flush=True); sys.stdin.read()"
    held = []
    for count in (1, 64 * MIB):
        command = [sys.executable, "-c", hold.format(count=count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it holds it
            held.append(memory_of([child.pid]))

    small, large = held
    assert 60 * MIB < large - small < 68 * MIB
    assert memory_of([2**22 + 1]) == 0


def test_room_is_what_a_folder_and_all_in_it_take_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * MIB)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * MIB)
    with (tmp_path / "a" / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
    (tmp_path / "elsewhere").write_bytes(b"x" * MIB)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")

    assert 2 * MIB <= room_taken_by(tmp_path / "a") < 3 * MIB
    assert room_taken_by(tmp_path / "missing") == 0
