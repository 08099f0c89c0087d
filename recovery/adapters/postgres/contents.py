"""A dump restored on a server of our own by a role that owns the database and may do nothing else.

Restoring calls functions of the dump, for an index, a constraint or a view that holds rows: run by a superuser they
would run programs of this host. What a superuser has to make before, extensions and roles that the dump names, is read
strictly from its text, by the form that `pg_dump` writes, and nothing of that text is run as it stands.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.errors import Hindered, Permanent
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    feed_program,
    plain_environment,
    undisturbed,
)

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
EMPTY_SCHEMA = re.compile(rf"^CREATE SCHEMA ({NAME});$", re.MULTILINE)
EXTENSION = re.compile(rf"^CREATE EXTENSION IF NOT EXISTS ({NAME})(?: WITH SCHEMA ({NAME}))?;$", re.MULTILINE)
MADE_BEFORE = re.compile(r"\d+; \d+ \d+ (SCHEMA|EXTENSION) - ")
OF_AN_EXTENSION = re.compile(r"\d+; \d+ \d+ COMMENT - EXTENSION ")
ENTRY = re.compile(r"\d+; \d+ \d+ (?P<words>.+)")
SUPERUSERS_ALONE = re.compile(
    r"\d+; \d+ \d+ (COMMENT \S+ )?(EVENT TRIGGER|(PROCEDURAL )?LANGUAGE|ACCESS METHOD|FOREIGN DATA WRAPPER|"
    r"OPERATOR CLASS|OPERATOR FAMILY|TRANSFORM|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE) "
)
"""Entries that nobody but a superuser can make: they are left out. Others may need them, but for an event trigger."""
NO_RIGHT = re.compile(
    r"permission denied|must be (superuser|owner|able)|must have|[Oo]nly (super|role)|password is required"
)
"""What a server says to a role that may not: it proves nothing of a dump that a superuser wrote."""
MOST_ROLES = 1000
ROLE_BYTES = 63
NAMED = 3
NOT_ALL = "A role that is no superuser restores dumps here, and could not restore all of this one."


def restore_contents(
    opened: Opened, *, url: str, as_role: str, database: str, programs: Programs, flags: Sequence[str]
) -> tuple[int, tuple[str, ...]]:
    """Restore a dump into a new database that a role owns; return its bytes, and in words what was left out.

    `url` is the server's superuser's, `as_role` the owner's. Raises `Permanent` for what is wrong with the dump, and
    `Hindered` where the server, or who restores, is what does not serve.
    """
    lines = [line for line in list_of(opened, programs=programs, flags=flags) if ENTRY.match(line)]
    ensure_roles_of(opened, lines, url=url, programs=programs, flags=flags)
    owner = str(conninfo_to_dict(as_role)["user"])
    own_url = make_conninfo(url, dbname=database)
    _ensure_extensions(opened, lines, url=own_url, owner=owner, programs=programs, flags=flags)
    left = [line for line in lines if SUPERUSERS_ALONE.match(line)]
    apart = {*left, *filter(MADE_BEFORE.match, lines), *filter(OF_AN_EXTENSION.match, lines)}
    with _chosen(line for line in lines if line not in apart) as chosen, closing(opened()) as content:
        try:
            size = feed_program(
                [
                    *(programs.path("pg_restore"), "--exit-on-error", "--no-password", f"--dbname={database}"),
                    *(f"--use-list={chosen}", *flags),
                ],
                content=content,
                environment=connection_environment(as_role) | {"PGDATABASE": database},
            )
        except Permanent as refusal:
            is_refused = NO_RIGHT.search(refusal.reason) or any(" EVENT TRIGGER " not in line for line in left)
            if is_refused and refusal.reason.startswith("pg_restore"):
                raise Hindered(f"{NOT_ALL} {refusal.reason}") from None
            raise
    return size, _told(left)


def _told(left: Sequence[str]) -> tuple[str, ...]:
    if not left:
        return ()
    found = (ENTRY.fullmatch(line) for line in left)
    names = [one["words"].rsplit(" ", 1)[0].replace(" - ", " ", 1) for one in found if one]
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (f"Left out, for a superuser alone could make it: {', '.join(names[:NAMED])}{more}.",)


def _ensure_extensions(
    opened: Opened, lines: Iterable[str], *, url: str, owner: str, programs: Programs, flags: Sequence[str]
) -> None:
    """Make the extensions of a dump, each in its schema, which is empty: nobody but us has been in the database yet."""
    chosen = [line for line in lines if MADE_BEFORE.match(line)]
    if not chosen:
        return
    text = text_of(opened, chosen, programs=programs, flags=flags)
    with connected(undisturbed(url)) as connection:
        known = {str(name) for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
        for schema in map(plain, EMPTY_SCHEMA.findall(text)):
            if not schema.startswith(PREDEFINED):
                make = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
                connection.execute(make.format(sql.Identifier(schema), sql.Identifier(owner)))
        for name, schema in EXTENSION.findall(text):
            if plain(name) not in known:
                raise Hindered(f"This machine lacks what the database needs: the extension “{plain(name)}”.")
            placed = sql.SQL(" SCHEMA {}").format(sql.Identifier(plain(schema))) if schema else sql.SQL("")
            try:
                connection.execute(
                    sql.SQL("CREATE EXTENSION IF NOT EXISTS {}{}").format(sql.Identifier(plain(name)), placed)
                )
            except psycopg.Error as refusal:
                words = str(refusal).strip().splitlines()[0]
                raise Hindered(
                    f"The extension “{plain(name)}” cannot be made on a server of its own: {words}"
                ) from None
        for (wrapper,) in connection.execute("SELECT fdwname FROM pg_foreign_data_wrapper").fetchall():
            grant = sql.SQL("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {}")
            connection.execute(grant.format(sql.Identifier(wrapper), sql.Identifier(owner)))


def list_of(opened: Opened, *, programs: Programs, flags: Sequence[str]) -> list[str]:
    """Return the lines of what a dump holds, as `pg_restore` lists it."""
    return _said(opened, "--list", *flags, programs=programs).splitlines()


def text_of(opened: Opened, lines: Iterable[str], *, programs: Programs, flags: Sequence[str]) -> str:
    """Return what `pg_restore` would run of these lines. It is somebody else's, and only to be read."""
    with _chosen(lines) as chosen:
        return _said(opened, f"--use-list={chosen}", *flags, programs=programs)


def ensure_roles_of(
    opened: Opened, lines: Iterable[str], *, url: str, programs: Programs, flags: Sequence[str]
) -> None:
    """Make on a server of our own the roles that a dump's policies and user mappings name. Nobody can be one."""
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


@contextmanager
def _chosen(lines: Iterable[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "chosen"
        chosen.write_text("".join(f"{line}\n" for line in lines))
        yield chosen


def _said(opened: Opened, *words: str, programs: Programs) -> str:
    with tempfile.TemporaryDirectory() as folder, closing(opened()) as content:
        said = Path(folder) / "said"
        command: list[str | Path] = [programs.path("pg_restore"), f"--file={said}", *words]
        feed_program(command, content=content, environment=plain_environment())
        return said.read_text(errors="replace")
