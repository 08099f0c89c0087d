from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.errors import Hindered, Permanent, Transient
from recovery.adapters.postgres.programs import (
    connection_environment,
    failure,
    find_programs,
    observe_server,
    output_of,
    run_program,
)

URL = "postgresql://ada:canary@127.0.0.1:1/books?sslmode=disable"


def test_a_version_that_is_not_installed_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="The programs of PostgreSQL 99 are not installed"):
        find_programs(major=99, folders=[str(tmp_path)])


def test_programs_are_taken_from_the_folder_of_their_version(tmp_path: Path) -> None:
    for major in (16, 18):
        folder = tmp_path / str(major) / "bin"
        folder.mkdir(parents=True)
        program = folder / "pg_basebackup"
        program.write_text(f"#!/bin/sh\necho 'pg_basebackup (PostgreSQL) {major}.3'\n")
        program.chmod(0o755)

    found = find_programs(major=18, folders=[f"{tmp_path}/{{major}}/bin"])

    assert found.folder == tmp_path / "18" / "bin"
    with pytest.raises(Hindered, match="PostgreSQL 18 has no program 'pg_dump'"):
        found.path("pg_dump")
    with pytest.raises(Permanent, match="PostgreSQL 18 are not installed"):
        find_programs(major=18, folders=[f"{tmp_path}/16/bin"])


def test_address_reaches_a_program_by_its_environment() -> None:
    environment = connection_environment(URL)

    assert {name: value for name, value in environment.items() if name.startswith("PG")} == {
        "PGHOST": "127.0.0.1",
        "PGPORT": "1",
        "PGUSER": "ada",
        "PGPASSWORD": "canary",
        "PGDATABASE": "books",
        "PGSSLMODE": "disable",
        "PGCONNECT_TIMEOUT": "10",
    }


@pytest.mark.parametrize("url", ["postgresql://x?options=-cjit=on", "not = an : address"])
def test_address_that_programs_would_not_take_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(Permanent, match="The address of the database"):
        connection_environment(url)


def test_server_that_is_away_is_transient_and_no_password_is_quoted() -> None:
    with pytest.raises(Transient) as raised:
        observe_server(URL)

    assert "canary" not in raised.value.reason
    assert "canary" not in failure("x", words="no: canary", environment={"PGPASSWORD": "canary"}).reason


def test_words_of_a_program_that_repeat_somebodys_rows_are_not_told() -> None:
    words = """pg_restore: error: COPY failed: ERROR:  duplicate key value violates unique constraint
DETAIL:  Key (name)=(Jane Canary) already exists.
CONTEXT:  COPY customer, line 1: "Jane Canary	DE89"
pg_restore: detail: Command was: COPY public.customer (name) FROM stdin;
Command was: INSERT INTO customer VALUES ('Jane Canary');
"""

    reason = failure("pg_restore", words=words, environment={}).reason

    assert "duplicate key value violates unique constraint" in reason
    assert "Canary" not in reason


@pytest.mark.parametrize("more", ["", "; printf ijkl"])
def test_output_comes_in_whole_parts_whatever_the_pieces_it_is_written_in(more: str) -> None:
    script = f"printf abc; sleep 0.1; printf d; printf efgh{more}"

    parts = output_of(["/bin/sh", "-c", script], environment={}, part_bytes=4)

    assert [bytes(part) for part in parts] == [b"abcd", b"efgh", b"ijkl"][: 3 if more else 2]


def test_output_that_ends_within_a_part_is_not_filled_up_and_its_failure_is_told() -> None:
    parts = output_of(["/bin/sh", "-c", "printf abcde; echo on purpose >&2; exit 3"], environment={}, part_bytes=4)

    assert [bytes(next(parts)), bytes(next(parts))] == [b"abcd", b"e"]
    with pytest.raises(Permanent, match="sh did not succeed: on purpose"):
        next(parts)


def test_program_that_fails_says_why_and_one_that_hangs_is_ended() -> None:
    with pytest.raises(Permanent, match="sh did not succeed: on purpose"):
        run_program(["/bin/sh", "-c", "echo on purpose >&2; exit 3"], environment={}, seconds=5)
    with pytest.raises(Hindered, match="sh did not succeed: cp: No space left on device"):
        run_program(["/bin/sh", "-c", "echo cp: No space left on device >&2; exit 1"], environment={}, seconds=5)
    with pytest.raises(Transient, match="sh was not done after 0 seconds"):
        run_program(["/bin/sh", "-c", "sleep 5"], environment={}, seconds=0.1)
