"""PostgreSQL for one folder: made once, started on loopback, stopped with the process that started it.

Passwords and the port stay in the folder, readable by its owner alone. As root the server runs as an unprivileged
user, and its cluster lies where that user can reach it. A killed previous run is cleared away at the next start.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from changecontrol.project.local.distribution import PostgresDistribution, postgres_distribution, shared_folder
from changecontrol.project.local.processes import (
    Account,
    LocalServiceError,
    Lock,
    end_with_parent,
    free_port,
    is_port_free,
    last_lines,
    private_folder,
    processes_working_in,
    read_state,
    run_as,
    send,
    start_time_of,
    stop_child,
    unprivileged_account,
    wait_until,
    write_private,
    write_state,
)

SUPERUSER = "postgres"
DATABASE = "changecontrol"
OWNER_ROLE = "changecontrol_owner"
APP_ROLE = "changecontrol_app"
ROLES_SQL = Path(__file__).with_name("roles.sql")
START_SECONDS = 60.0
ORPHAN_SECONDS = 15.0
PORT_ATTEMPTS = 5
LOG_BYTES = 5_000_000
DURABLE_OPTIONS = {"max_connections": "100"}
FAST_OPTIONS = {
    "max_connections": "200",
    # Commits are written but not forced to disk: they survive a killed server, not a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "1d",
}
# Fast shutdown first (clients are cut off), then immediate, then the kernel.
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))


class Postgres:
    """One PostgreSQL server, known by its folder.

    `durable=False` trades safety against a power cut for speed: for tests, whose data nobody keeps. `distribution` is
    whose programs it runs with; the one that is found where none is named.
    Start it from the main thread: it stops when the thread that started it ends.
    """

    def __init__(self, folder: Path, *, durable: bool = True, distribution: PostgresDistribution | None = None) -> None:
        self.folder = private_folder(folder)
        self._options = DURABLE_OPTIONS if durable else FAST_OPTIONS
        self._account: Account | None = unprivileged_account()
        self._distribution = distribution
        self._lock = Lock(self.folder / "lock")
        self._child: subprocess.Popen[bytes] | None = None
        self._state_file = self.folder / "postgres.json"
        self._log_file = self.folder / "postgres.log"

    # What others ask for.

    @property
    def port(self) -> int:
        """The loopback port it listens on; remembered from start to start unless somebody else took it."""
        return int(read_state(self._state_file)["port"])

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while this object runs it."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def owner_url(self) -> str:
        """The owner's address: migrations, and making test databases."""
        return self._url(role=OWNER_ROLE, database=DATABASE)

    @property
    def app_url(self) -> str:
        """The application's address: rows of the tables that migrations made, and no more."""
        return self._url(role=APP_ROLE, database=DATABASE)

    @property
    def superuser_url(self) -> str:
        """The superuser's address: base backups and tests of what the other roles may not do."""
        return self._url(role=SUPERUSER, database="postgres")

    @property
    def cluster(self) -> Path:
        """The data directory."""
        return self._cluster_parent() / "data"

    def tool(self, name: str) -> Path:
        """Return the path of one of this server's own programs, such as `pg_dump`."""
        return self._programs().tool(name)

    def is_running(self) -> bool:
        """Tell whether the server that this object started is alive."""
        return self.pid is not None

    def start(self) -> Postgres:
        """Start the server, making its cluster first where there is none; return self once it answers.

        Raises `AlreadyRunning` when another process runs it, `LocalServiceError` when it cannot be started.
        """
        if self.is_running():
            return self
        self._lock.acquire(refusal="PostgreSQL of this folder is already running; it was started by another process")
        try:
            self._clear_previous_run()
            if not self._is_initialised():
                self._initialise()
            self._launch()
        except BaseException as error:
            self._end_child()
            self._lock.release()
            if self._account is not None and isinstance(error, PermissionError):
                raise LocalServiceError(
                    "PostgreSQL does not run as root, and this machine does not let root start it as the user "
                    f"'{self._account.name}' ({error.strerror}). Run the same command as an ordinary user."
                ) from error
            raise
        return self

    def stop(self) -> None:
        """Stop the server and give its folder back; stopping a stopped one is harmless."""
        self._end_child()
        self._lock.release()

    def restart(self) -> Postgres:
        """Stop and start again on the same port with the same data, as an upgrade or a failed host would."""
        port = self.port
        self._end_child()
        # It may have been killed rather than stopped.
        self._clear_previous_run()
        wait_until(lambda: is_port_free(port), seconds=10)
        self._launch()
        return self

    def destroy(self) -> None:
        """Delete the cluster, its passwords and its port. Raises `AlreadyRunning` while somebody runs it."""
        self.stop()
        self._lock.acquire(refusal="PostgreSQL of this folder is running, so its data stays")
        try:
            self._clear_previous_run()
            # As root its parent is a folder made for it alone.
            shutil.rmtree(self.cluster if self._account is None else self._cluster_parent(), ignore_errors=True)
            self._state_file.unlink(missing_ok=True)
        finally:
            self._lock.release()

    def run_sql(self, script: str) -> str:
        """Run a psql script as superuser and return what it printed. Raises `LocalServiceError` at its first error."""
        done = subprocess.run(
            [self.tool("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"],
            # By standard input: what stands on a command line can be read by everybody on the machine.
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env=_environment()
            | {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": SUPERUSER}
            | {"PGUSER": SUPERUSER, "PGPASSWORD": self._password(SUPERUSER)},
        )
        if done.returncode != 0:
            raise LocalServiceError(f"PostgreSQL refused a script: {done.stderr.strip()[-400:]}")
        return done.stdout

    # Making the cluster.

    def _cluster_parent(self) -> Path:
        if self._account is None:
            return self.folder
        # Named by the clone's path: the clone itself may be where only root can enter.
        key = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        parent = shared_folder() / f"cluster-{key}"
        if not parent.is_dir():
            parent.mkdir(mode=0o700)
            os.chown(parent, self._account.uid, self._account.gid)
        elif parent.is_symlink() or parent.stat().st_uid != self._account.uid:
            raise LocalServiceError(f"{parent} does not belong to the user '{self._account.name}'; move it away.")
        return parent

    def _is_initialised(self) -> bool:
        return bool(read_state(self._state_file).get("initialised")) and (self.cluster / "PG_VERSION").is_file()

    def _initialise(self) -> None:
        """Make cluster, roles and database. What a killed earlier attempt left is thrown away: nobody used it."""
        shutil.rmtree(self.cluster, ignore_errors=True)
        state = {
            "port": free_port(),
            "passwords": {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER_ROLE, APP_ROLE)},
            "initialised": False,
        }
        write_state(self._state_file, state)
        self._run_initdb()
        self._launch()
        self._run_roles_sql()
        self._end_child()
        write_state(self._state_file, read_state(self._state_file) | {"initialised": True})

    def _run_initdb(self) -> None:
        programs = self._programs()
        password_file = self._cluster_parent() / "password"
        write_private(password_file, self._password(SUPERUSER))
        if self._account is not None:
            os.chown(password_file, self._account.uid, self._account.gid)
        # The same code points everywhere: no dependence on the locales that this machine happens to have.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if programs.major >= 17 else []
        command: list[str | Path] = [programs.tool("initdb"), "--pgdata", self.cluster, "--username", SUPERUSER]
        command += ["--pwfile", password_file, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", *locale]
        command += ["--no-instructions", "--no-sync"]
        try:
            made = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                cwd=self._cluster_parent(),
                env=_environment(),
                **run_as(self._account),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            raise LocalServiceError(f"PostgreSQL could not make its data directory: {made.stderr.strip()[-400:]}")

    def _run_roles_sql(self) -> None:
        variables = {"owner_password": self._password(OWNER_ROLE), "app_password": self._password(APP_ROLE)}
        self.run_sql("".join(f"\\set {name} '{value}'\n" for name, value in variables.items()) + ROLES_SQL.read_text())

    # Running the server.

    def _launch(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            self._choose_port()
            self._spawn()
            if wait_until(self._is_settled, seconds=START_SECONDS) and self.is_running():
                return
            self._end_child()
            if is_port_free(self.port):
                break
            # Somebody took the port between our look and the server's: choose again.
        raise LocalServiceError(
            f"PostgreSQL did not start. Its log {self._log_file} ends: {last_lines(self._log_file)}"
        )

    def _choose_port(self) -> None:
        state = read_state(self._state_file)
        if not is_port_free(int(state["port"])):
            write_state(self._state_file, state | {"port": free_port()})

    def _spawn(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # No socket file: its path would have to be short, and everything here speaks TCP with a password.
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._options,
        }
        command: list[str | Path] = [self.tool("postgres"), "-D", self.cluster]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        mode = "ab" if self._log_file.exists() and self._log_file.stat().st_size < LOG_BYTES else "wb"
        with self._log_file.open(mode) as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cluster_parent(),
                env=_environment(),
                # Ctrl-C in the terminal reaches the supervisor alone, which then stops its children in order.
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGINT),
                **run_as(self._account),
            )

    def _is_settled(self) -> bool:
        """Tell whether the server answers or has given up."""
        if not self.is_running():
            return True
        lines = _postmaster_file(self.cluster)
        # The eighth line is the server's own word about its state; the first says whose word it is.
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _end_child(self) -> None:
        if self._child is not None:
            stop_child(self._child, steps=STOP_STEPS)
            self._child = None

    def _clear_previous_run(self) -> None:
        """End what a killed run left alive in the cluster, and remove its stale pid file.

        We hold the folder's lock, so whatever still works there has lost its master.
        """
        for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            left = processes_working_in(self.cluster)
            for pid in left:
                send(pid, signal_number)
            if wait_until(lambda left=left: not any(map(start_time_of, left)), seconds=ORPHAN_SECONDS / 3):  # type: ignore[misc]
                break
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _programs(self) -> PostgresDistribution:
        if self._distribution is None:
            self._distribution = postgres_distribution(self._account)
        return self._distribution

    def _password(self, role: str) -> str:
        return str(read_state(self._state_file)["passwords"][role])

    def _url(self, *, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._password(role)}@127.0.0.1:{self.port}/{database}"


def _environment() -> dict[str, str]:
    """Return what the server's programs see: none of the caller's PG* variables, no locale of its own."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _postmaster_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
