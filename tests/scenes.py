"""The whole slice at work: the demo retailer, a practice estate, a web server and a worker, all real, on loopback.

The retailer is loaded once a session; each scene begins from a copy of it and leaves nothing behind.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pygit2
import pytest
import requests
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connections
from django.test import override_settings

from changecontrol import clock
from changecontrol.access import Actor
from changecontrol.actions.tokens import create_token
from changecontrol.lifecycles.run import ACTIVE
from changecontrol.models import ChangeRequest, GitSource, Run, RunTarget, User
from changecontrol.project.local.processes import end_with_parent
from deployments.demo import loading
from deployments.demo.loading import Paths
from deployments.practice.server import PracticeServer
from tests.plugin import ROOT, TestDatabase

SPEED = 10.0
"""How much faster than life pods start and orders are lost."""
DEPLOY = ROOT / "deploy"
LOOK_SECONDS = 0.3
PATIENCE_SECONDS = 150.0
REVIEWERS = {"Technical review": "cy", "Change manager": "ben"}
T = TypeVar("T")


@dataclass(frozen=True)
class Retailer:
    """The loaded demo to begin from: a database nobody is connected to, and a folder."""

    database: TestDatabase
    folder: Path


@dataclass
class Caller:
    """Somebody at the REST API, with a token of their own."""

    origin: str
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.token}"

    def get(self, path: str, **query: Any) -> Any:
        """Return what an address answers; it must be 200."""
        answer = self.session.get(f"{self.origin}/api/v1/{path}", params=query, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, path: str) -> requests.Response:
        return self.session.get(f"{self.origin}/api/v1/{path}", timeout=60)

    def post(self, path: str, **words: Any) -> requests.Response:
        return self.session.post(f"{self.origin}/api/v1/{path}", json=words, timeout=30)

    def must(self, path: str, **words: Any) -> Any:
        """Return the answer to a command; it must be accepted."""
        answer = self.post(path, **words)
        assert answer.ok, answer.text
        return answer.json()


@dataclass
class World:
    """One scene. `until` waits with a deadline, and fails with the end of the worker's log.

    Without a worker, whoever waits does the work: a scene in which none is killed or watched needs no other process.
    """

    paths: Paths
    practice: PracticeServer
    origin: str
    database: TestDatabase
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def password(self) -> str:
        return self.paths.sign_ins.read_text().strip()

    @property
    def objects(self) -> Path:
        return self.paths.folder / "objects"

    @property
    def mail(self) -> Path:
        return self.paths.folder / "mail"

    @property
    def public_key(self) -> Path:
        return self.paths.folder / "evidence.public.pem"

    @property
    def log(self) -> Path:
        return self.paths.folder / "worker.log"

    def user(self, username: str) -> User:
        return User.objects.get(username=username)

    def caller(self, username: str) -> Caller:
        """Return somebody with a fresh token."""
        now = clock.now()
        actor = Actor(user=self.user(username), via="page", authentication="password", authenticated_at=now)
        made = create_token(actor=actor, name="Scene", expires_at=now + timedelta(hours=1), at=now)
        return Caller(self.origin, made.secret)

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "manage.py", "tick", "--forever", "--every", "0.2", log=self.log)

    def work_off(self) -> None:
        """Do what is due now, in this process."""
        call_command("tick", "--once", stdout=io.StringIO())

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a process of the product; it ends with the scene."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
        self.workers.append(process)
        return process

    def end(self) -> None:
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(self, look: Callable[[], T], *, seconds: float = PATIENCE_SECONDS) -> T:
        """Return what `look` finds, once it finds something. Meanwhile nothing waits for its next regular look."""
        ends_at = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > ends_at:
                pytest.fail(f"It did not come true within {seconds} s. {self._state()}")
            self.hurry()
            if not self.workers:
                self.work_off()
            time.sleep(LOOK_SECONDS)
        return found

    def hurry(self) -> None:
        """Make due what only waits for its next look at the cluster, as a nudge would; bakes keep their time."""
        at = clock.now()
        soon = {"lease_token__isnull": True, "next_due_at__gt": at + timedelta(seconds=1)}
        RunTarget.objects.filter(**soon).update(next_due_at=at + timedelta(seconds=0.3))
        Run.objects.filter(state__in=list(ACTIVE), **soon).update(next_due_at=at + timedelta(seconds=0.3))

    def change(self, title: str) -> ChangeRequest:
        """Return the prepared change of that title."""
        return ChangeRequest.objects.get(title=title, tenant__slug="northwind")

    def ref(self, environment: str, *, tenant: str = "northwind") -> pygit2.Commit:
        """Return the commit that an environment's Git ref names."""
        repository = pygit2.Repository(str(self.paths.repositories / f"{tenant}.git"))
        found = repository.references[f"refs/heads/environments/{environment}"].peel(pygit2.Commit)
        assert isinstance(found, pygit2.Commit)
        return found

    def images(self, namespace: str) -> set[str]:
        """Return the images that the pods of a namespace run, as an administrator sees them."""
        pods = self.ask_cluster("GET", f"/api/v1/namespaces/{namespace}/pods").json()["items"]
        return {
            container["image"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            for container in pod["spec"]["containers"]
        }

    def effects(self) -> dict[str, int]:
        """Return how often each object was changed by a request, by verb and object."""
        found: dict[str, int] = self.ask_cluster("GET", "/practice/calls").json()["effects"]
        return found

    def ask_cluster(self, method: str, path: str, body: object = None) -> requests.Response:
        answer = requests.request(
            method,
            self.practice.url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.practice.admin_token}"},
            verify=str(self.paths.practice / "ca.crt"),
            timeout=10,
        )
        answer.raise_for_status()
        return answer

    def _state(self) -> str:
        changes = [f"{one} is {one.state}: {one.problem}" for one in ChangeRequest.objects.exclude(state="draft")]
        runs = [f"{one} is {one.state}: {one.sentence}" for one in Run.objects.all()]
        return "\n".join([*changes, *runs, self.log.read_text()[-4000:] if self.log.exists() else ""])


def submitted(world: World, ada: Caller, title: str, **answers: Any) -> str:
    """Ada submits a prepared draft, with other answers where some are named; return its number once it is judged."""
    change = world.change(title)
    if answers:
        places = [slug for wave in answers.get("waves", []) for slug in wave["environments"]]
        content = {**answers, "environments": places} if places else answers
        ada.must(f"changes/{change.number}/draft/", seen_version=change.draft_version, content=content)
    ada.must(f"changes/{change.number}/submit/")
    world.until(lambda: state_of(ada, change.number) in {"authorize", "draft"})
    found = ada.get(f"changes/{change.number}/")
    assert (found["state"], found["problem"]) == ("authorize", "")
    return str(change.number)


def vote(person: Caller, number: str, place: str, *, seen: str = "") -> requests.Response:
    """Vote for the plan as it is now, or for the one that was seen earlier."""
    rows = person.get(f"changes/{number}/approvals/")["requirements"]
    newest = max(one["round"] for one in rows)
    key = next(one["id"] for one in rows if (one["round"], one["name"]) == (newest, place))
    digest = seen or person.get(f"changes/{number}/")["plan_digest"]
    return person.post(f"changes/{number}/vote/", requirement=key, verdict="approve", seen_digest=digest)


def approve(world: World, number: str, *, places: tuple[str, ...] = ("Technical review", "Change manager")) -> None:
    """Cy and Ben approve, one after the other, where they are asked."""
    for place in places:
        answer = vote(world.caller(REVIEWERS[place]), number, place)
        assert answer.status_code == 201, answer.text


def state_of(person: Caller, number: str) -> str:
    return str(person.get(f"changes/{number}/")["state"])


@pytest.fixture(scope="session")
def retailer(
    django_db_setup: None, database: TestDatabase, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Retailer]:
    """Load the demo retailer once, through the product's own actions."""
    folder = tmp_path_factory.mktemp("retailer")
    # A browser of an earlier test may have left its event loop in this thread; nothing of Django runs in it.
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        paths = Paths(folder)
        with (
            PracticeServer.start(state=paths.practice, speed=100, keeps_objects=True),
            PracticeServer.start(state=paths.standby, speed=100, keeps_objects=True),
        ):
            loading.load(paths, deploy=DEPLOY, at=clock.now())
        call_command("make_evidence_key", str(folder / "evidence.pem"), stdout=io.StringIO())
        connections.close_all()
        loaded = TestDatabase()
        loaded.template = database.name
        loaded.create()
        database.drop()
        database.create()
    yield Retailer(loaded, folder)
    loaded.drop()


@pytest.fixture
def stage(fresh_db: TestDatabase, retailer: Retailer, tmp_path: Path) -> Iterator[World]:
    """Set the scene: a retailer and its cluster, a web server; no worker yet."""
    folder = tmp_path / "demo"
    shutil.copytree(retailer.folder, folder)
    paths = Paths(folder)
    with (
        _begin_from(retailer, fresh_db),
        PracticeServer.start(state=paths.practice, speed=SPEED, keeps_objects=True) as practice,
        PracticeServer.start(state=paths.standby, speed=SPEED, keeps_objects=True),
    ):
        GitSource.objects.update(url="")
        for slug in ("northwind", "alder-pine", "kite"):
            GitSource.objects.filter(tenant__slug=slug).update(url=str(paths.repositories / f"{slug}.git"))
        loading.load(paths, deploy=DEPLOY, at=clock.now())
        with serving(
            OBJECT_STORE_URL=f"file://{folder}/objects",
            GIT_MIRRORS=str(folder / "mirrors"),
            EVIDENCE_SIGNING_KEY=f"file:{folder}/evidence.pem",
        ) as origin:
            world = World(
                paths=paths,
                practice=practice,
                origin=origin,
                database=fresh_db,
                environment={
                    "DJANGO_SETTINGS_MODULE": "tests.settings_scene",
                    "DATABASE_URL": fresh_db.url,
                    "DATABASE_CONNECTION_SECONDS": "60",
                    "OBJECT_STORE_URL": f"file://{folder}/objects",
                    "GIT_MIRRORS": str(folder / "mirrors"),
                    "EVIDENCE_SIGNING_KEY": f"file:{folder}/evidence.pem",
                    "EMAIL_URL": f"file://{folder}/mail",
                    "LOG_LEVEL": "INFO",
                    "DEMO": "1",
                },
            )
            yield world
            world.end()
            clock.set_offset(timedelta())


@pytest.fixture
def world(stage: World) -> World:
    """The whole slice, with a worker."""
    stage.start_worker()
    return stage


@contextmanager
def _begin_from(retailer: Retailer, database: TestDatabase) -> Iterator[None]:
    usual = database.template
    database.drop()
    database.template = retailer.database.name
    database.create()
    try:
        yield
    finally:
        connections.close_all()
        database.template = usual


@contextmanager
def serving(**changed: Any) -> Iterator[str]:
    """Serve the application from a thread of this process; yield its address."""
    static = settings.BASE_DIR / "static"
    words = {"ALLOWED_HOSTS": ["127.0.0.1"], "STATIC_ROOT": static, "DEMO": True, "BACKUP_POLICY_REQUIRED": False}
    with override_settings(**words, **changed):
        server = ThreadedWSGIServer(("127.0.0.1", 0), _SilentHandler)
        server.daemon_threads = True
        server.set_app(_Application())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Keep the test's output free of requests."""


class _Application(WSGIHandler):
    """Gives the connection of each request's thread back at its end, so that the database can be dropped."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        response = super().__call__(environ, start_response)
        original = response.close

        def close() -> None:
            original()
            connections.close_all()

        setattr(response, "close", close)  # noqa: B010  the server calls it at the end
        return response
