"""Secrets planted wherever the product meets some are found nowhere it writes: SEC-1, RUN-9, AUD-8."""

from __future__ import annotations

import base64
import io
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pygit2
import pytest
import requests
import yaml
from django.test import Client
from psycopg import sql

from changecontrol import clock
from changecontrol.models import AuditEvent, Environment, GitSource
from changecontrol.project.local.processes import free_port
from deployments.demo.manifests import BROKEN, GOOD, LEAKING
from tests.scenes import Caller, World, approve, state_of, submitted

pytestmark = pytest.mark.slow

STAGING = [{"name": "Staging", "environments": ["nw-staging"], "bake_seconds": 0}]
DEVELOPMENT = [{"name": "Development", "environments": ["nw-dev"], "bake_seconds": 0}]
IN_A_SECRET = "Canary1SecretObject9f3k"
IN_A_VARIABLE = "Canary2PlainVariable7d2m"
IN_THE_PAST = "Canary3RanBefore5h8q"
OF_GIT = "Canary4GitToken6w1z"
IN_THE_CLUSTER = "Canary5DatabasePassword4r7x"


@pytest.fixture(autouse=True)
def frozen_time() -> None:
    """Let time pass here: pods start, waves bake."""


@pytest.fixture
def talkative(stage: World) -> World:
    """Return the whole slice with a web server and a worker of their own that log all they can."""
    stage.environment |= {"LOG_LEVEL": "DEBUG", "GIT_CANARY": OF_GIT}
    port = free_port()
    command = (str(Path(sys.executable).with_name("gunicorn")), "changecontrol.project.wsgi:application")
    options = ("--bind", f"127.0.0.1:{port}", "--threads", "2", "--no-control-socket")
    stage.start(*command, *options, log=stage.paths.folder / "web.log")
    stage.start_worker()
    stage.origin = f"http://127.0.0.1:{port}"
    stage.until(lambda: _answers(stage.origin))
    return stage


def test_planted_secrets_are_found_nowhere_the_product_writes(talkative: World) -> None:
    # SEC-1, RUN-9
    world = talkative
    plant_what_ran_before(world)
    plant_a_commit_with_secrets(world)
    plant_a_source_with_a_credential(world)
    sign_in_rightly_and_with_the_password_in_the_wrong_field(world)
    ada = token_made_by_rest(world, "ada")

    refused = turned_back(world, ada, BROKEN.summary, revision_name="with-secrets")
    away = world.change(LEAKING.summary)
    unreachable = away.number
    answers = {"waves": DEVELOPMENT, "environments": ["nw-dev"]}
    ada.must(f"changes/{unreachable}/draft/", seen_version=away.draft_version, content=answers)
    ada.must(f"changes/{unreachable}/submit/")
    carried_out = submitted(world, ada, GOOD.summary, waves=STAGING)
    approve(world, carried_out, places=("Technical review",))
    world.until(lambda: state_of(ada, carried_out) == "review")
    world.until(lambda: AuditEvent.objects.filter(tag="change:submitted").count() == 3)
    pack = world.caller("dee").ask(f"changes/{carried_out}/evidence-pack/")
    assert pack.status_code == 200
    places = {
        "database": dict(database(world)),
        "logs": {path.name: path.read_bytes() for path in (world.log, world.paths.folder / "web.log")},
        "objects": files_below(world.objects),
        "mail": files_below(world.mail),
        "pack": unzipped(pack.content),
        "pages": pages(world, (refused, unreachable, carried_out)),
    }

    # What is no secret is found in every place: the search works, and each place has something to find.
    known = dict.fromkeys(places, carried_out) | {"objects": "odoo-web"}
    assert [place for place, parts in places.items() if not found_in(parts, known[place].encode())] == []
    secrets = planted(world, ada)
    assert {name: leaks(places, value) for name, value in secrets.items()} == {name: [] for name in secrets}


# What is planted.


def plant_what_ran_before(world: World) -> None:
    """A password stands in a variable of what runs; the release that takes it out shows a difference."""
    repository = _repository(world)
    running = repository.references["refs/heads/environments/nw-staging"].peel(pygit2.Commit)
    commit = _with_variable(repository, running, "nw-staging", IN_THE_PAST, objects=[])
    repository.references.create("refs/heads/environments/nw-staging", commit, force=True)
    repository.references["refs/heads/main"].set_target(_child_of(repository, commit, "refs/heads/main"))
    for one in yaml.safe_load_all(_file(repository, commit, "nw-staging")):
        if one["kind"] == "Deployment":
            place = f"/apis/apps/v1/namespaces/nw-staging/deployments/{one['metadata']['name']}"
            _apply(world, place, one)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "odoo-database"}}
    data = {"password": base64.b64encode(IN_THE_CLUSTER.encode()).decode()}
    _apply(world, "/api/v1/namespaces/nw-staging/secrets/odoo-database", secret | {"data": data})


def plant_a_commit_with_secrets(world: World) -> None:
    """A Secret and a plain password in one commit, which the gates refuse."""
    repository = _repository(world)
    main = repository.references["refs/heads/main"].peel(pygit2.Commit)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gateway"},
        "stringData": {"password": IN_A_SECRET},
    }
    commit = _with_variable(repository, main, "nw-pilot", IN_A_VARIABLE, objects=[secret])
    repository.references.create("refs/heads/with-secrets", commit)


def plant_a_source_with_a_credential(world: World) -> None:
    """The repository of one environment is on a server that does not answer."""
    tenant = world.change(GOOD.summary).tenant
    source = GitSource.objects.create(
        tenant=tenant,
        slug="elsewhere",
        name="Elsewhere",
        url="https://127.0.0.1:9/estate.git",
        credential="env:GIT_CANARY",
    )
    Environment.objects.filter(slug="nw-dev").update(source=source)


def sign_in_rightly_and_with_the_password_in_the_wrong_field(world: World) -> None:
    for username, password in ((world.password, "mistaken"), ("ben", world.password)):
        session = requests.Session()
        session.trust_env = False
        page = session.get(f"{world.origin}/accounts/login/", timeout=30).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        words = {"csrfmiddlewaretoken": token[1], "login": username, "password": password}
        session.post(f"{world.origin}/accounts/login/", data=words, timeout=30)


def signed_in(world: World, username: str) -> Client:
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(world.user(username), backend="django.contrib.auth.backends.ModelBackend")
    return client


def token_made_by_rest(world: World, username: str) -> Caller:
    client = signed_in(world, username)
    until = (clock.now() + timedelta(hours=1)).isoformat()
    answer = client.post(
        "/api/v1/tokens/",
        {"name": "Canary", "expires_at": until},
        content_type="application/json",
        headers={"Idempotency-Key": "once"},
    )
    assert answer.status_code == 201, answer.text
    return Caller(world.origin, answer.json()["secret"])


def turned_back(world: World, ada: Caller, title: str, **content: Any) -> str:
    """Submit what the gates refuse; return its number."""
    change = world.change(title)
    ada.must(f"changes/{change.number}/draft/", seen_version=change.draft_version, content=content)
    ada.must(f"changes/{change.number}/submit/")
    world.until(lambda: state_of(ada, change.number) == "draft")
    verdicts = {one["gate"]: one["verdict"] for one in ada.get(f"changes/{change.number}/gates/")["results"]}
    assert (verdicts["policy"], verdicts["secret_scan"]) == ("fail", "fail")
    return change.number


def planted(world: World, ada: Caller) -> dict[str, str]:
    """Return every secret by where it was planted."""
    practice = world.paths.practice
    executor = yaml.safe_load((practice / "executor.kubeconfig").read_text())
    pem = (world.paths.folder / "evidence.pem").read_text().splitlines()
    return {
        "a Secret of a commit": IN_A_SECRET,
        "a variable of a commit": IN_A_VARIABLE,
        "a variable of what ran before": IN_THE_PAST,
        "the credential of a Git source": OF_GIT,
        "a Secret in the cluster": IN_THE_CLUSTER,
        "the kubeconfig's token": executor["users"][0]["user"]["token"],
        "the metrics server's token": (practice / "metrics.token").read_text().strip(),
        "the signing key": pem[1],
        "the password of every person": world.password,
        "an API token": ada.token,
    }


# Where it is looked for.


def database(world: World) -> Iterator[tuple[str, bytes]]:
    """Return every row of every table as text."""
    with psycopg.connect(world.database.owner_url) as owner:
        tables = owner.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for (name,) in tables.fetchall():
            rows = owner.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(name))).fetchall()
            yield name, "\n".join(row for (row,) in rows).encode()


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unzipped(pack: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pages(world: World, numbers: tuple[str, ...]) -> dict[str, bytes]:
    """Return what people of the tenant see of these changes, as pages and by REST."""
    found = {}
    for username in ("ada", "cy", "dee"):
        client = signed_in(world, username)
        paths = ["/audit/", "/inbox/", "/account/", "/rollouts/", "/estate/", "/environments/northwind/nw-staging/"]
        for number in numbers:
            paths += [f"/changes/{number}/", f"/changes/{number}/run/", f"/changes/{number}/difference/"]
            paths += [f"/api/v1/changes/{number}/{part}" for part in ("", "plan/", "gates/", "timeline/", "run/")]
        for path in paths:
            answer = client.get(path, follow=True)
            found[f"{username} {path}"] = answer.content
    return found


def leaks(places: Mapping[str, Mapping[str, bytes]], secret: str) -> list[str]:
    """Return where a secret is found, as it is or written in another alphabet."""
    raw = secret.encode()
    forms = {raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()}
    return sorted(
        f"{place}: {part}" for place, parts in places.items() for form in forms for part in found_in(parts, form)
    )


def found_in(parts: Mapping[str, bytes], wanted: bytes) -> list[str]:
    return [name for name, data in parts.items() if wanted in data]


# Git and the cluster by hand.


def _repository(world: World) -> pygit2.Repository:
    return pygit2.Repository(str(world.paths.repositories / "northwind.git"))


def _file(repository: pygit2.Repository, commit: pygit2.Oid, environment: str) -> bytes:
    tree = _folder(repository[commit].peel(pygit2.Commit), environment)
    blob = tree / _workloads_of(tree)
    assert isinstance(blob, pygit2.Blob)
    return bytes(blob.data)


def _folder(commit: pygit2.Commit, environment: str) -> pygit2.Tree:
    found = commit.tree[f"environments/{environment}"]
    assert isinstance(found, pygit2.Tree)
    return found


def _workloads_of(folder: pygit2.Tree) -> str:
    """Return the name of the file that holds the workloads."""
    return next(str(one.name) for one in folder if one.name != "shared.yaml")


def _with_variable(
    repository: pygit2.Repository, parent: pygit2.Commit, environment: str, value: str, *, objects: list[dict[str, Any]]
) -> pygit2.Oid:
    """Commit the same content with a password in a variable of the first workload, and more objects."""
    documents = list(yaml.safe_load_all(_file(repository, parent.id, environment)))
    workload = next(one for one in documents if one["kind"] == "Deployment")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [*container["env"], {"name": "GATEWAY_PASSWORD", "value": value}]
    name = _workloads_of(_folder(parent, environment))
    index = pygit2.Index()
    index.read_tree(parent.tree)
    blob = repository.create_blob(yaml.safe_dump_all([*documents, *objects]).encode())
    index.add(pygit2.IndexEntry(f"environments/{environment}/{name}", blob, pygit2.enums.FileMode.BLOB))
    return _commit(
        repository, index.write_tree(repository), parent.id, f"Configure the payment gateway of {environment}"
    )


def _child_of(repository: pygit2.Repository, parent: pygit2.Oid, ref: str) -> pygit2.Oid:
    """Commit the content of a ref on top of another commit."""
    commit = repository.references[ref].peel(pygit2.Commit)
    return _commit(repository, commit.tree.id, parent, commit.message)


def _commit(repository: pygit2.Repository, tree: pygit2.Oid, parent: pygit2.Oid, message: str) -> pygit2.Oid:
    author = pygit2.Signature("Release robot", "releases@northwind.example", 1_790_000_000, 0)
    return repository.create_commit(None, author, author, message, tree, [parent])


def _apply(world: World, path: str, body: dict[str, Any]) -> None:
    answer = requests.patch(
        world.practice.url + path,
        params={"fieldManager": "changecontrol", "force": "true"},
        data=yaml.safe_dump(body),
        headers={
            "Authorization": f"Bearer {world.practice.admin_token}",
            "Content-Type": "application/apply-patch+yaml",
        },
        verify=str(world.paths.practice / "ca.crt"),
        timeout=10,
    )
    answer.raise_for_status()


def _answers(origin: str) -> bool:
    try:
        return requests.get(f"{origin}/healthz", timeout=2).ok
    except (requests.ConnectionError, requests.Timeout):
        return False
