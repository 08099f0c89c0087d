"""What exists elsewhere and what does not exist are one answer, byte for byte, whatever is asked (BIZ-1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from changecontrol import access
from changecontrol.models import (
    ApiToken,
    ApprovalPolicy,
    ChangeRequest,
    Cluster,
    Freeze,
    TenantUserObjectPermission,
    User,
    Window,
)
from changecontrol.rules.roles import Ability, Role
from recovery.actions.holds import place_hold
from recovery.actions.restores import ask_restore
from tests.changecontrol.api.conftest import client_for
from tests.factories import (
    CONTENT,
    NOW,
    SmallEstate,
    actor,
    add_person,
    advance_to,
    authorized_change,
    draft_change,
    grant,
    requirement_named,
    small_estate,
    stranger_estate,
)
from tests.factories.recovery import backup_policy, finished_drill, recorded_point, recovery_owner

MISSING = 987_654
WORDS = {"northwind": "nowhereee", "n-prod": "m-prod", "ada": "oda", "n-pilot": "m-pilot", "n-region": "m-region"}
"""What is called so elsewhere, and a name of the same length that nothing has."""


@dataclass(frozen=True)
class Elsewhere:
    """Northwind with one of everything, all under names that Kite has nothing of, and two who may not know of it."""

    estate: SmallEstate
    kite: SmallEstate
    change: ChangeRequest
    keys: dict[str, int]
    eve: User
    """Holds every role at Kite."""
    nils: User
    """Reviews one environment of Northwind, in which no change is under way."""

    def person(self, name: str) -> User:
        found: User = getattr(self, name)
        return found


@pytest.fixture
def elsewhere(db: None) -> Elsewhere:
    kite, eve = stranger_estate()
    estate = small_estate()
    cluster = Cluster.objects.create(slug="n-cluster", name="Theirs", credential="env:KUBE")
    for thing, slug in (
        (estate.pilot, "n-pilot"),
        (estate.region, "n-region"),
        (estate.source, "n-source"),
        (estate.process, "n-process"),
        (estate.production, "n-prod"),
    ):
        type(thing).objects.filter(pk=thing.pk).update(slug=slug)
    type(estate.production).objects.filter(pk=estate.production.pk).update(cluster=cluster)
    done = advance_to(estate, "review", environments=["n-prod"])
    nils = add_person("nils")
    grant(nils, Role.TECHNICAL_REVIEWER, estate.development)
    window = Window.objects.create(
        tenant=estate.tenant, environment=estate.production, name="Secret night", starts_local=NOW,
        duration_seconds=3600, created_at=NOW,
    )  # fmt: skip
    freeze = Freeze.objects.create(
        tenant=estate.tenant, environment=estate.production, name="Peak", reason="-", starts_at=NOW,
        ends_at=NOW.replace(year=2030), opened_by=estate.ben,
    )  # fmt: skip
    policy = ApprovalPolicy.objects.create(
        tenant=estate.tenant, slug="own", name="Own", version=1, content={"stages": []}, created_at=NOW
    )
    keys = {
        "tenants": estate.tenant.pk,
        "regions": estate.region.pk,
        "stores": estate.pilot.stores.earliest("pk").pk,
        "cohorts": estate.pilot.pk,
        "environments": estate.production.pk,
        "clusters": cluster.pk,
        "processes": estate.process.pk,
        "sources": estate.source.pk,
        "windows": window.pk,
        "freezes": freeze.pk,
        "policies": policy.pk,
        "runs": done.runs.get().pk,
        "messages": estate.ada.messages.latest("pk").pk,
        "tokens": ApiToken.objects.create(
            user=estate.ada, name="t", prefix="cc_", secret_sha256="0" * 64, created_at=NOW, expires_at=NOW
        ).pk,
        "role-grants": TenantUserObjectPermission.objects.get(user=estate.ada).pk * 4,
    }
    keys |= _recovery_of(estate)
    change = authorized_change(estate, environments=["n-prod"])
    return Elsewhere(estate=estate, kite=kite, change=change, keys=keys, eve=eve, nils=nils)


def _recovery_of(estate: SmallEstate) -> dict[str, Any]:
    """Have one of everything that recovery keeps of production, and return the keys by the kind in the address."""
    rio, place = recovery_owner(estate), estate.production
    policy = backup_policy(place)
    point = recorded_point(place, "secret-point", NOW, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": place.pk, "at": NOW}
    restore = ask_restore(target_at=NOW, target_database="secret_copy", reason="-", **words)
    hold = place_hold(name="Secret case", reason="-", **words)
    failed = finished_drill(place, by=rio, target_at=NOW, is_passed=False)
    return {
        "recovery/corrective-actions": failed.corrective_actions.get().pk,
        "recovery/policies": policy.pk,
        "recovery/points": point.pk,
        "recovery/backups": point.run_id,
        "recovery/restores": restore.pk,
        "recovery/drills": failed.pk,
        "recovery/holds": hold.pk,
        "recovery/environments": place.pk,
    }


def kind_of(path: str) -> str:
    """Return what kind of thing an address is of."""
    _, _, _, first, second, *_ = path.split("/")
    return f"{first}/{second}" if first == "recovery" else first


WHOLE_TENANT = {"tenants", "regions", "cohorts", "processes", "sources", "policies"}
"""What somebody with a role on one environment knows of its tenant: names, not changes (`access.visible`)."""


def reads() -> Iterator[tuple[str, list[str]]]:
    """Yield every path that is read, with the names of its query parameters."""
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    for path, methods in schema["paths"].items():
        if "get" in methods:
            yield path, [one["name"] for one in methods["get"].get("parameters", []) if one["in"] == "query"]


def told(answer: Any, *names: str) -> tuple[int, str, dict[str, str]]:
    """Return all that an answer says, without the name that was asked for."""
    body = answer.content.decode()
    for name in names:
        body = body.replace(name, "…")
    return answer.status_code, body, {key: value for key, value in answer.headers.items() if key != "Content-Length"}


@pytest.mark.parametrize("who", ["eve", "nils"])
def test_an_address_of_something_elsewhere_is_an_address_of_nothing(elsewhere: Elsewhere, who: str) -> None:
    client = client_for(elsewhere.person(who), warm=True)
    found = {}

    for path, _ in reads():
        kind = kind_of(path)
        if "{" not in path or (who == "nils" and kind in WHOLE_TENANT):
            continue
        number, key = elsewhere.change.number, elsewhere.keys.get(kind, MISSING)
        hidden = client.get(path.format(number=number, id=key, artefact=1))
        missing = client.get(path.format(number="CHG-987654", id=MISSING, artefact=1))
        if told(hidden, number) != told(missing, "CHG-987654") or hidden.status_code != 404:
            found[path] = (hidden.status_code, hidden.content, missing.status_code, missing.content)

    assert found == {}


@pytest.mark.parametrize("who", ["eve", "nils"])
def test_a_filter_by_a_name_elsewhere_is_a_filter_by_no_name(elsewhere: Elsewhere, who: str) -> None:
    client = client_for(elsewhere.person(who), warm=True)
    words = {**WORDS, elsewhere.change.number: "CHG-987654", "Faster reorder": "Slower reorder"}
    words = {
        word: other for word, other in words.items() if who == "eve" or word not in {"northwind", "n-pilot", "n-region"}
    }
    found = {}

    for path, parameters in reads():
        if "{" in path or path == "/api/v1/me/" or (who == "eve" and "audit" in path):
            continue
        for parameter in parameters:
            for word, other in words.items():
                hidden, missing = (client.get(path, {parameter: one}) for one in (word, other))
                if told(hidden, word, word.replace(" ", "+")) != told(missing, other, other.replace(" ", "+")):
                    found[path, parameter, word] = (hidden.content, missing.content)

    assert found == {}


def test_a_list_holds_no_trace_of_another_tenant(elsewhere: Elsewhere) -> None:
    client = client_for(elsewhere.eve, warm=True)

    leaks = {
        path: [
            word
            for word in ("northwind", "n-prod", "n-cluster", "Secret night", "Peak", "secret-point", "Secret case")
            if word in text
        ]
        for path, _ in reads()
        if "{" not in path
        for text in [client.get(path, {} if path.endswith("me/") else {"page_size": 200}).getvalue().decode()]
    }

    assert {path: words for path, words in leaks.items() if words} == {}
    assert client.get("/metrics").status_code != 200 or "northwind" not in client.get("/metrics").content.decode()


RECOVERY_WORDS: dict[str, dict[str, Any]] = {
    "policies": {"seen_version": 0},
    "backups": {"reason": "-"},
    "restores": {"reason": "-", "target_at": "2026-11-23T10:12:00Z", "target_database": "copy"},
    "drills": {"level": 2, "target_at": "2026-11-23T10:12:00Z"},
    "holds": {"name": "C", "reason": "-"},
}


def bodies(kite: SmallEstate) -> dict[str, tuple[str, dict[str, Any], list[tuple[str, Any, Any]]]]:
    """Return commands at Kite: the address, the words, and by field what names something elsewhere, and nothing."""
    tenant = ("tenant", "northwind", "nowhereee")
    window = {
        "tenant": "kite",
        "name": "W",
        "starts_local": "2026-11-24T02:00:00",
        "duration_seconds": 60,
        "zone": "UTC",
    }
    freeze = {
        "tenant": "kite",
        "name": "F",
        "reason": "-",
        "starts_at": "2030-01-01T00:00:00Z",
        "ends_at": "2030-01-02T00:00:00Z",
    }
    places = [
        ("environment", "n-prod", "m-prod"),
        ("cluster", "n-cluster", "m-cluster"),
        ("cohort", "n-pilot", "m-pilot"),
        tenant,
    ]
    of_place = [tenant, ("environment", "n-prod", "m-prod")]
    environment = {
        "tenant": "kite",
        "slug": "new",
        "name": "New",
        "stage": "staging",
        "namespace": "kite-new",
        "path": "x",
        "cluster": "pt-1",
        "source": "estate",
    }
    store = {
        "tenant": "kite",
        "code": "new",
        "name": "New",
        "zone": "UTC",
        "opens_at": "09:00",
        "closes_at": "20:00",
        "sales_share": "1",
        "region": "iberia",
    }
    return {
        "change": (
            "changes/",
            {"tenant": "kite", "title": "T"},
            [
                tenant,
                ("content", {"environments": ["n-prod"]}, {"environments": ["m-prod"]}),
            ],
        ),
        "window": ("windows/", window, places),
        "freeze": ("freezes/", freeze, places),
        "policy": (
            "policies/",
            {"tenant": "kite", "slug": "p", "name": "P", "content": {"stages": []}, "seen_version": 0},
            [
                tenant,
            ],
        ),
        "grant": (
            "role-grants/",
            {"tenant": "kite", "holder": "ada-kite", "role": "auditor"},
            [
                tenant,
                ("holder", "ada", "oda"),
                ("environment", "n-prod", "m-prod"),
            ],
        ),
        **{
            f"recovery {name}": (
                f"recovery/{name}/",
                {"tenant": "kite", "environment": "production", **words},
                of_place,
            )
            for name, words in RECOVERY_WORDS.items()
        },
        "region": ("regions/", {"tenant": "kite", "slug": "new", "name": "New"}, [tenant]),
        "store": ("stores/", store, [tenant, ("region", "n-region", "m-region"), ("cohort", "n-pilot", "m-pilot")]),
        "process": (
            "processes/",
            {"tenant": "kite", "slug": "new", "name": "N", "tier": 3, "rto_seconds": 1, "rpo_seconds": 1},
            [
                tenant,
                ("owner", "ada", "oda"),
            ],
        ),
        "environment": (
            "environments/",
            environment,
            [
                tenant,
                ("cluster", "n-cluster", "m-cluster"),
                ("source", "n-source", "m-source"),
                ("processes", ["n-process"], ["m-process"]),
                ("cohorts", ["n-pilot"], ["m-pilot"]),
            ],
        ),
    }


def test_a_body_that_names_something_elsewhere_names_nothing(elsewhere: Elsewhere) -> None:
    client = client_for(elsewhere.eve, warm=True)
    found = {}

    for name, (path, words, naming) in bodies(elsewhere.kite).items():
        for field, hidden, missing in naming:
            answers = [client.post(f"/api/v1/{path}", {**words, field: value}) for value in (hidden, missing)]
            said = [
                told(answer, *_names(value), *_numbers())
                for answer, value in zip(answers, (hidden, missing), strict=True)
            ]
            is_filed = name == "change" and field == "content"
            if said[0][:1] != said[1][:1] or (not is_filed and said[0] != said[1]):
                found[name, field] = said

    assert found == {}


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [one for inner in value.values() for one in inner]
    return value if isinstance(value, list) else [value]


def _numbers() -> list[str]:
    return [one.number for one in ChangeRequest.objects.all()]


def test_a_draft_that_names_environments_elsewhere_is_refused_as_if_they_were_none(elsewhere: Elsewhere) -> None:
    change = draft_change(elsewhere.kite, environments=["development"])
    client = client_for(elsewhere.eve, warm=True)
    said = []

    for slug in ("n-prod", "m-prod"):
        draft = ChangeRequest.objects.get(pk=change.pk)
        words = {"seen_version": draft.draft_version, "content": {**CONTENT, "environments": [slug]}}
        assert client.post(f"/api/v1/changes/{change.number}/draft/", words).status_code == 200
        said.append(told(client.post(f"/api/v1/changes/{change.number}/submit/", {}), slug))

    assert said[0] == said[1]
    assert said[0][0] == 422


def test_handing_over_tells_nothing_of_people_elsewhere(elsewhere: Elsewhere) -> None:
    change = draft_change(elsewhere.kite, environments=["development"])
    client = client_for(elsewhere.kite.ada, warm=True)

    said = [
        told(client.post(f"/api/v1/changes/{change.number}/hand-over/", {"assignee": name}), name)
        for name in ("ada", "oda")
    ]

    assert said[0] == said[1]
    assert said[0][0] == 422


def test_a_commands_address_elsewhere_is_no_address(elsewhere: Elsewhere) -> None:
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    client = client_for(elsewhere.eve, warm=True)
    requirement = requirement_named(elsewhere.change, "technical_reviewer").pk
    words = {
        "vote": {"requirement": requirement, "verdict": "approve", "seen_digest": elsewhere.change.plan.digest},
        "withdraw-vote": {"requirement": requirement, "comment": "No."},
        "lift": {"reason": "Over."},
        "cancel": {"reason": "No."},
        "close": {"note": "Mended."},
        "retention": {"seen_goes": []},
        "comparison": {"difference": 1, "reason": "-"},
    }
    found = {}

    for path, methods in schema["paths"].items():
        for method in {"post", "patch"} & methods.keys():
            if "{" not in path:
                continue
            kind, part = kind_of(path), path.rstrip("/").rpartition("/")[2]
            ask = getattr(client, method)
            key = elsewhere.keys.get(kind, MISSING)
            hidden = ask(path.format(number=elsewhere.change.number, id=key, verb="pause"), words.get(part, {}))
            missing = ask(path.format(number="CHG-987654", id=MISSING, verb="pause"), words.get(part, {}))
            if told(hidden, elsewhere.change.number) != told(missing, "CHG-987654"):
                found[method, path] = (hidden.status_code, hidden.content, missing.status_code, missing.content)

    assert found == {}
    assert not access.can(access.Actor(user=elsewhere.eve, via="api"), Ability.CHANGE_VIEW, elsewhere.change)
