"""What a dump says of itself before anything of it is restored: its list of contents, and what it asks of the server.

A dump holds no roles, and some of what it holds names them. Its text is another's: it is read strictly, and nothing of
it is run here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from psycopg import sql

from recovery.adapters.postgres.programs import Programs, connected, feed_program, plain_environment, undisturbed

Opened = Callable[[], Generator[bytes, None, None]]
"""Begins to read a dump anew each time: of its contents only the first bytes are read."""

NAMING_ROLES = re.compile(r"\d+; \d+ \d+ (POLICY|USER MAPPING) ")
NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
POLICY = re.compile(
    rf"^CREATE POLICY {NAME} ON {NAME}(?:\.{NAME})?(?: AS RESTRICTIVE)?(?: FOR (?:SELECT|INSERT|UPDATE|DELETE))?"
    rf" TO ({NAME}(?:, {NAME})*)(?: USING | WITH CHECK |;)",
    re.MULTILINE,
)
USER_MAPPING = re.compile(rf"^CREATE USER MAPPING FOR ({NAME}) SERVER ", re.MULTILINE)
PREDEFINED = "pg_"
MOST_ROLES = 1000
ROLE_BYTES = 63


def list_of(opened: Opened, *, programs: Programs, flags: Sequence[str]) -> list[str]:
    """Return the lines of what a dump holds, as `pg_restore` lists it."""
    return _said(opened, "--list", *flags, programs=programs).splitlines()


def text_of(opened: Opened, lines: Iterable[str], *, programs: Programs, flags: Sequence[str]) -> str:
    """Return what `pg_restore` would run of these lines. It is somebody else's, and only to be read."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "chosen"
        chosen.write_text("".join(f"{line}\n" for line in lines))
        return _said(opened, f"--use-list={chosen}", *flags, programs=programs)


def ensure_roles_of(
    opened: Opened, lines: Iterable[str], *, url: str, programs: Programs, flags: Sequence[str]
) -> None:
    """Make on a server of our own the roles that a dump's policies and user mappings name: nobody can be one of them."""
    naming = [line for line in lines if NAMING_ROLES.match(line)]
    if not naming:
        return
    text = text_of(opened, naming, programs=programs, flags=flags)
    wanted = [name for found in POLICY.findall(text) for name in re.findall(NAME, found)]
    wanted += USER_MAPPING.findall(text)
    with connected(undisturbed(url)) as connection:
        known = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for name in list(dict.fromkeys(map(plain, wanted)))[:MOST_ROLES]:
            if name not in known | {"public"} and not name.startswith(PREDEFINED) and len(name.encode()) <= ROLE_BYTES:
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))


def plain(name: str) -> str:
    """Return a name as it stands in the catalogue."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _said(opened: Opened, *words: str, programs: Programs) -> str:
    with tempfile.TemporaryDirectory() as folder, closing(opened()) as content:
        said = Path(folder) / "said"
        command = [programs.path("pg_restore"), f"--file={said}", *words]
        feed_program(command, content=content, environment=plain_environment())
        return said.read_text(errors="replace")
