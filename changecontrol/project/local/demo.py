"""`make demo`: PostgreSQL, Valkey, the practice estate, the web server, a worker and beat, under one supervisor.

Keeps everything below `.local/demo` of this clone, tells how to sign in, and ends all of it on Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import (
    AlreadyRunning,
    LocalServiceError,
    Lock,
    free_port,
    is_port_free,
    private_folder,
    read_state,
    write_private,
    write_state,
)
from changecontrol.project.local.services import CLONE
from changecontrol.project.local.supervisor import LOOK_SECONDS, MARK, Program, Supervisor, end_marked
from changecontrol.project.local.valkey import Valkey

PROGRAMS = Path(sys.executable).parent
MANAGE = (sys.executable, str(CLONE / "manage.py"))
CELERY = (str(PROGRAMS / "celery"), "-A", "changecontrol.project.celery")
PORTS_TRIED = 50
READY_SECONDS = 120.0
FIRST_STEPS = """\
What to try first:
  1. Sign in as Ada, open the guide, then the good change, and submit it: its gates run, and it waits for approval.
  2. Sign in as Cy (in a private window) and approve it, then as Ben. Ada cannot approve her own.
  3. Watch it roll out wave by wave, then do the same with the bad image: it rolls itself back.
  4. Sign in as Dee, download the evidence pack of what has run, and run its verify.py.
  5. Sign in as Rio and open Recovery: the web shop is backed up, and was restored to prove it. Restore it to a time
     of your choice, hold a drill, sabotage a copy. Ada's change of analytics waits until a point of it is proved.
  6. As Ada, restore the web shop and put it in place, as a change: the database nw_shop_restored, the branch
     shop-restored. Approve it as Cy, Ben and his deputy, and watch backup, restore and cut-over.
  7. Then, as Rio, back the web shop up and hold a drill of level 5 of that point: the shop comes up from it in another
     cluster, is asked how it is, and is taken down again."""


class Stopped(Exception):
    """The person at the terminal, or the system, asked the demo to end."""


class Demo:
    """One run of the demo, which keeps its data in a folder of its own."""

    def __init__(self, *, folder: Path, port: int) -> None:
        self._folder = folder
        self._wanted_port = port
        self._postgres: Postgres | None = None
        self._valkey: Valkey | None = None
        self._shop: Postgres | None = None
        self._supervisor: Supervisor | None = None
        self._signals = 0
        self._is_stopping = False

    def run(self) -> None:
        """Start everything and stay until told to end. Raises `LocalServiceError` when something is in the way."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What the caller ignores (nohup) stays ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        try:
            self._start()
            while True:
                self._look_after()
                time.sleep(LOOK_SECONDS)
        except Stopped:
            say("Stopping.")
        finally:
            self._is_stopping = True
            self._stop()
        say("Everything has stopped; the data is kept. `make demo` goes on with it, `make demo-reset` forgets it.")

    def _start(self) -> None:
        began = time.monotonic()
        (self._folder / "running.json").unlink(missing_ok=True)
        left = end_marked(self._folder)
        if left:
            say(f"A previous run was killed; {left} processes that it left have been ended.")
        environment = self._settings()
        self._supervisor = Supervisor(folder=self._folder, working_directory=CLONE, environment=environment, say=say)
        say("Bringing the database up to date.")
        environment |= {MARK: str(self._folder)}
        manage("migrate", "--no-input", "--verbosity", "0", environment=environment)
        ensure_signing_key(self._folder, environment=environment)
        for name in ("practice", "standby"):
            self._supervisor.start(practice(self._folder, name))
        manage("load_demo", "--folder", str(self._folder), environment=environment)
        manage("demo_recovery", "--folder", str(self._folder / "recovery"), environment=environment)
        address = environment["BASE_URL"]
        programs = (web(int(address.rpartition(":")[2])), worker(), beat(self._folder), *recovery(self._folder))
        for program in programs:
            self._supervisor.start(program)
        loaded = ("load_demo", "--folder", str(self._folder))
        sign_ins = manage(*loaded, "--print-sign-ins", environment=environment).strip()
        self._wait_until_ready(address)
        write_state(self._folder / "running.json", {"address": address, "process": os.getpid()})
        say(f"\nChangeControl answers at {address}   (ready in {time.monotonic() - began:.0f} s)\n")
        say(f"{sign_ins}\n\n{FIRST_STEPS}\n\nLogs: {self._folder / 'logs'}. Ctrl-C stops everything.")

    def _settings(self) -> dict[str, str]:
        """Return the environment of every program; what the caller has set already points elsewhere, and stays."""
        port = choose_port(self._wanted_port)
        settings = {
            "DJANGO_SETTINGS_MODULE": "changecontrol.project.settings",
            "DEMO": "1",
            "BASE_URL": f"http://127.0.0.1:{port}",
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "SECRET_KEY": secret_key(self._folder),
            "EVIDENCE_SIGNING_KEY": f"file:{signing_key(self._folder)}",
            "OBJECT_STORE_URL": private_folder(self._folder / "objects").as_uri(),
            "EMAIL_URL": private_folder(self._folder / "mail").as_uri(),
            "GIT_MIRRORS": str(private_folder(self._folder / "mirrors")),
            "WAL_FOLDERS": str(private_folder(self._folder / "wal")),
            "RECOVERY_SANDBOXES": str(sandboxes(self._folder)),
            "LOG_FORMAT": "text",
            "PYTHONUNBUFFERED": "1",
            # Somebody is watching: steps that are due in two seconds should not wait for ten.
            "SWEEP_SECONDS": "2",
        }
        settings |= {name: os.environ[name] for name in settings.keys() & os.environ.keys() if name != "BASE_URL"}
        if not os.environ.keys() & {"DATABASE_URL", "DATABASE_URL_FILE"}:
            self._postgres = Postgres(self._folder / "postgres").start()
            settings["DATABASE_URL"] = self._postgres.app_url
            settings["MIGRATION_DATABASE_URL"] = self._postgres.owner_url
        if not os.environ.keys() & {"REDIS_URL", "REDIS_URL_FILE"}:
            self._valkey = Valkey(self._folder / "valkey").start()
            settings["REDIS_URL"] = self._valkey.url
        self._shop = Postgres(self._folder / "shop").start()
        write_secret(self._folder / "recovery" / "secrets" / "server", self._shop.superuser_url)
        settings.setdefault("POSTGRES_PROGRAMS", str(self._shop.tool("pg_basebackup").parent))
        return os.environ | settings | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}"}

    def _wait_until_ready(self, address: str) -> None:
        say("Waiting for the web server.")
        deadline = time.monotonic() + READY_SECONDS
        answer = "nothing yet"
        while time.monotonic() < deadline:
            self._look_after()
            status, answer = ask_readiness(address)
            if status == http.client.OK:
                return
            time.sleep(LOOK_SECONDS)
        raise LocalServiceError(
            f"The web server is not ready. It says: {answer} Its log: {self._folder / 'logs' / 'web.log'}"
        )

    def _look_after(self) -> None:
        parts = (("PostgreSQL", self._postgres), ("The shop's PostgreSQL", self._shop), ("Valkey", self._valkey))
        for name, service in parts:
            if service is not None and not service.is_running():
                say(f"{name} has ended; it is started again.")
                service.restart()
        if self._supervisor is not None:
            self._supervisor.look_after()

    def _stop(self) -> None:
        (self._folder / "running.json").unlink(missing_ok=True)
        if self._supervisor is not None:
            # A second Ctrl-C means now.
            asked = self._signals
            self._supervisor.stop(hurried=lambda: self._signals > asked)
        # A management command that was going on.
        end_marked(self._folder)
        for service in (self._valkey, self._shop, self._postgres):
            if service is not None:
                service.stop()

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if not self._is_stopping:
            self._is_stopping = True
            raise Stopped


def practice(folder: Path, name: str) -> Program:
    """A cluster of the practice estate: the one that changes go to, or the one in which the web shop is rehearsed."""
    state = private_folder(folder / name)
    return Program(name=name, command=(*MANAGE, "practice", "--state", str(state)))


def web(port: int) -> Program:
    """The web server."""
    command = (str(PROGRAMS / "gunicorn"), "changecontrol.project.wsgi:application", "--bind", f"127.0.0.1:{port}")
    # Its control socket would be a file in the user's home.
    options = ("--workers", "2", "--threads", "8", "--graceful-timeout", "5", "--no-control-socket")
    return Program(name="web", command=command + options)


def worker() -> Program:
    """The background worker."""
    command = (*CELERY, "worker", "--concurrency", "3", "--without-gossip", "--without-mingle", "--loglevel", "INFO")
    return Program(name="worker", command=command)


def beat(folder: Path) -> Program:
    """The clock that starts the sweeps."""
    return Program(name="beat", command=(*CELERY, "beat", "--schedule", str(folder / "beat"), "--pidfile", ""))


def recovery(folder: Path) -> tuple[Program, ...]:
    """What backs the demo's shop up: its customers, whoever ships its WAL, and whoever does long work."""
    shop = ("demo_recovery", "--sell", "--folder", str(folder / "recovery"))
    return (
        Program(name="shop", command=(*MANAGE, *shop)),
        Program(name="archiver", command=(*MANAGE, "archive_wal")),
        Program(name="jobs", command=(*MANAGE, "jobs")),
    )


def sandboxes(folder: Path) -> Path:
    """Return where this demo's restores have their folders: a short path that the user of PostgreSQL can reach."""
    name = f"changecontrol-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return (shared_folder() if os.geteuid() == 0 else Path(tempfile.gettempdir())) / name


def write_secret(file: Path, secret: str) -> None:
    """Keep a secret in a file of its own that its owner alone reads."""
    private_folder(file.parent.parent)
    write_private(private_folder(file.parent) / file.name, secret)


def manage(*arguments: str, environment: dict[str, str]) -> str:
    """Run a management command and return what it printed. Raises `LocalServiceError` with its last words."""
    done = subprocess.run(
        [*MANAGE, *arguments],
        cwd=CLONE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise LocalServiceError(f"`manage.py {' '.join(arguments)}` did not succeed:\n{done.stderr.strip()[-3000:]}")
    return done.stdout


def choose_port(wanted: int) -> int:
    """Return the wanted port or the next free one, and say so."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        if is_port_free(port):
            if port != wanted:
                say(f"Port {wanted} is taken by another program; the demo uses {port}.")
            return port
    return free_port()


def secret_key(folder: Path) -> str:
    """Return this demo's own secret key, made at its first start: sessions survive a restart."""
    file = folder / "secrets.json"
    known = read_state(file)
    if "secret_key" not in known:
        known["secret_key"] = secrets.token_urlsafe(50)
        write_state(file, known)
    return str(known["secret_key"])


def ensure_signing_key(folder: Path, *, environment: dict[str, str]) -> None:
    """Make this demo's own key for evidence packs at its first start, or after one that was killed while writing it."""
    file = signing_key(folder)
    if not file.exists() or file.stat().st_size == 0:
        file.unlink(missing_ok=True)
        manage("make_evidence_key", str(file), environment=environment)


def signing_key(folder: Path) -> Path:
    """Return where this demo's key for evidence packs is."""
    return folder / "evidence.pem"


def ask_readiness(address: str) -> tuple[int, str]:
    """Ask `/readyz` and return status and words; no proxy of the machine is in between."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, f"{answer.status} {answer.read(500).decode('utf-8', 'replace')}"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{error}."
    finally:
        connection.close()


def reset(folder: Path) -> None:
    """Forget everything the demo keeps."""
    end_marked(folder)
    Postgres(folder / "postgres").destroy()
    shutil.rmtree(folder)
    say("The demo's data is gone; `make demo` starts over.")


def say(sentence: str) -> None:
    """Print a sentence at once, also into a pipe."""
    print(sentence, flush=True)


def holding(folder: Path, act: Callable[[], None]) -> None:
    """Act while no other demo of this folder runs, else say where that one is."""
    # Beside the folder, which a reset deletes.
    lock = Lock(private_folder(folder.parent) / f"{folder.name}.lock")
    try:
        lock.acquire(refusal="The demo of this clone is already running")
    except AlreadyRunning as error:
        address = read_state(folder / "running.json").get("address")
        where = f"It answers at {address}." if address else "It is still starting."
        raise AlreadyRunning(f"{error} {where} Stop it with Ctrl-C in its terminal.") from error
    try:
        act()
    finally:
        lock.release()


def main(arguments: list[str]) -> int:
    """Run or reset the demo; return 1 after a sentence when something is in the way."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("verb", choices=("run", "reset"))
    parser.add_argument("--port", type=int, default=8000, help="where it answers; the next free one when it is taken")
    parser.add_argument("--folder", type=Path, default=CLONE / ".local" / "demo", help="where it keeps its data")
    asked = parser.parse_args(arguments)
    folder = private_folder(asked.folder)
    act = Demo(folder=folder, port=asked.port).run if asked.verb == "run" else lambda: reset(folder)
    try:
        holding(folder, act)
    except AlreadyRunning as error:
        say(str(error))
        return 0 if asked.verb == "run" else 1
    except LocalServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
