"""Every named address of the product, asked by nobody, by a stranger to the tenant and by a member of it.

An address without its three cases fails: whoever adds one says here who may see what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from changecontrol import access
from changecontrol.models import ApiToken, ApprovalPolicy, Freeze, User, Window
from changecontrol.rules.roles import Role
from changecontrol.urls import urlpatterns as of_changecontrol
from deployments.urls import urlpatterns as of_deployments
from recovery.actions.holds import place_hold
from recovery.models import CorrectiveAction, Disagreement
from recovery.urls import urlpatterns as of_recovery
from tests.factories import NOW, SmallEstate, actor, add_person, authorized_change, requirement_named, small_estate
from tests.factories import stranger_estate as kite_estate
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    recorded_point,
    recovery_owner,
    started_drill,
)
from tests.factories.rollout import LiveRun, live_run

pytestmark = pytest.mark.django_db

OF_LIBRARY = ("account_", "mfa_")
"""Each about the person signed in and nobody else; `tests/functional/test_account.py` asks them."""
SECRET_WORDS = ("Northwind", "northwind", "Faster reorder proposals", "Odoo image 19.0", "Secret night", "Peak trading")


LATER = NOW + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Case:
    """Who of the tenant asks, and what a GET answers them. What takes only POST says so (405), to strangers too.

    `is_own`: a page about nothing in particular; a stranger gets their own, in which nothing of the tenant is named.
    """

    who: str = "ada"
    status: int = 200
    is_own: bool = False


POSTED = Case(status=405)
CASES = {
    "home": Case(is_own=True),
    "waiting": Case("ben", is_own=True),
    "changes": Case(is_own=True),
    "change-new": Case(is_own=True),
    "change": Case(),
    "change-edit": Case(),
    "change-difference": Case(),
    "change-run": Case("cy"),
    # The address is there; tests have no key to sign a pack with.
    "evidence-pack": Case("dee", status=409),
    "artefact": Case(status=404),
    "change-action": POSTED,
    "approvals": Case("ben", is_own=True),
    "vote": POSTED,
    "withdraw-vote": POSTED,
    "inbox": Case(is_own=True),
    "inbox-read": Case(status=405, is_own=True),
    "account": Case(is_own=True),
    "token-create": Case(status=405, is_own=True),
    "token-revoke": POSTED,
    "first-run": Case(status=404, is_own=True),
    "calendar": Case(is_own=True),
    "window-new": Case("administrator", is_own=True),
    "window": Case(),
    "window-edit": Case("administrator"),
    "freeze-new": Case("administrator", is_own=True),
    "freeze-lift": POSTED,
    "estate": Case(is_own=True),
    "estate-stores": Case(is_own=True),
    "estate-new": Case("administrator", is_own=True),
    "estate-edit": Case("administrator"),
    "environment": Case(),
    "audit": Case("dee", is_own=True),
    "administration": Case("administrator", is_own=True),
    "policy-new": Case("administrator", is_own=True),
    "policy": Case("administrator"),
    "people": Case("administrator"),
    "role-grant": POSTED,
    "role-revoke": POSTED,
    "person-new": POSTED,
    "components": Case(status=404, is_own=True),
    "restores": Case(is_own=True),
    "restore-new": Case("rio", is_own=True),
    "restore": Case(),
    "restore-cancel": POSTED,
    "drills": Case(is_own=True),
    "drill-new": Case("rio", is_own=True),
    "drill-reports": Case("dee", is_own=True),
    "drill": Case(),
    "drill-cancel": POSTED,
    "drill-sign-off": POSTED,
    # It goes on yet: there is no report to take.
    "drill-pdf": Case(status=409),
    "drill-json": Case(status=409),
    "corrective-action-link": POSTED,
    "corrective-action-close": POSTED,
    "rollouts": Case(is_own=True),
    "run": Case(),
    "run-verb": POSTED,
    "recovery": Case(is_own=True),
    "recovery-environment": Case(),
    "hold-everything": POSTED,
    "backup-policy": Case(),
    "backup-policy-edit": Case("rio"),
    "recovery-usage": Case(is_own=True),
    "retention": Case(),
    "unknown-let-go": POSTED,
    "unknown-take-in": POSTED,
    "back-up": Case("rio"),
    "backup": Case(),
    "backup-cancel": POSTED,
    "point": Case(),
    "hold-point": POSTED,
    "point-drill": POSTED,
    "hold-lift": POSTED,
}


@dataclass(frozen=True)
class Place:
    """A tenant with one of everything that has an address."""

    estate: SmallEstate
    live: LiveRun
    administrator: User
    rio: User
    arguments: dict[str, list[Any]]

    def url(self, name: str) -> str:
        return reverse(name, args=self.arguments.get(name, []))

    def person(self, name: str) -> User:
        found: User = getattr(self if name in {"administrator", "rio"} else self.estate, name)
        return found


@pytest.fixture
def place(settings: Any) -> Place:
    settings.STATIC_ROOT = settings.BASE_DIR / "static"
    estate = small_estate()
    administrator = add_person("administrator")
    for role in (Role.TENANT_ADMINISTRATOR, Role.FREEZE_OWNER):
        access.grant_role(administrator, role, estate.tenant)
    change = authorized_change(estate)
    live = live_run(estate, at=NOW)
    needed = requirement_named(change, "technical_reviewer").pk
    token = ApiToken.objects.create(
        user=estate.ada, name="t", prefix="cc_", secret_sha256="0" * 64, created_at=NOW, expires_at=NOW
    )
    window = Window.objects.create(
        tenant=estate.tenant, name="Secret night", starts_local=NOW, duration_seconds=3600, created_at=NOW
    )
    freeze = Freeze.objects.create(
        tenant=estate.tenant, name="Peak trading", reason="-", starts_at=NOW, ends_at=LATER, opened_by=estate.ben
    )
    shipped = ApprovalPolicy.objects.filter(is_active=True).order_by("pk").last()
    assert shipped is not None
    policy = ApprovalPolicy.objects.create(
        tenant=estate.tenant,
        slug="northwind-own",
        version=1,
        name="Northwind's own",
        content=shipped.content,
        created_at=NOW,
        is_active=True,
    )
    rio = recovery_owner(estate)
    backup_policy(estate.production)
    point = recorded_point(estate.production, "northwind-point", NOW, by=rio)
    hold = place_hold(
        actor=actor(rio), environment_id=estate.production.pk, name="Northwind's case", reason="-", at=NOW
    )
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    restore = asked_restore(estate.production, by=rio, target_at=NOW - HOUR)
    drill = started_drill(estate.production, by=rio, target_at=NOW - HOUR)
    todo = CorrectiveAction.objects.create(drill=drill, title="More disk", owner=rio, opened_at=NOW)
    tenant = estate.tenant.slug
    difference = Disagreement.objects.create(
        environment=estate.production, store="file:///northwind", kind="unknown_set", name="northwind", found_at=NOW
    )
    arguments: dict[str, list[Any]] = {
        **{one: [change.number] for one in ("change", "change-edit", "change-difference", "change-run")},
        "evidence-pack": [change.number],
        "artefact": [change.number, "0" * 64],
        "change-action": [change.number, "hold"],
        "vote": [needed],
        "withdraw-vote": [needed],
        "token-revoke": [token.pk],
        "window": [window.pk],
        "window-edit": [window.pk],
        "freeze-lift": [freeze.pk],
        "estate-new": ["cohort"],
        "estate-edit": ["cohort", estate.pilot.pk],
        "environment": [tenant, estate.production.slug],
        "policy": [policy.pk],
        **{one: [tenant] for one in ("people", "role-grant", "role-revoke", "person-new")},
        **{one: [restore.pk] for one in ("restore", "restore-cancel")},
        **{one: [drill.pk] for one in ("drill", "drill-cancel", "drill-sign-off", "drill-pdf", "drill-json")},
        **{one: [todo.pk] for one in ("corrective-action-link", "corrective-action-close")},
        "run": [live.run.pk],
        "run-verb": [live.run.pk, "pause"],
        **{
            key: [tenant, estate.production.slug]
            for key in ("recovery-environment", "hold-everything", "back-up", "retention")
        },
        **{key: [tenant, estate.production.slug] for key in ("backup-policy", "backup-policy-edit")},
        **{key: [point.pk] for key in ("point", "hold-point", "point-drill")},
        "hold-lift": [hold.pk],
        **{one: [point.run_id] for one in ("backup", "backup-cancel")},
        **{one: [difference.pk] for one in ("unknown-let-go", "unknown-take-in")},
    }
    return Place(estate, live, administrator, rio, arguments)


def named(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from named(one.url_patterns)
        elif one.name:
            yield one.name


def client_of(person: User | None) -> Client:
    client = Client()
    if person is not None:
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def text_of(answer: Any) -> str:
    """Return what was answered, also where it is sent as it is read."""
    return b"".join(answer).decode(errors="replace")


def test_every_address_has_its_cases() -> None:
    assert sorted(CASES) == sorted(named([*of_changecontrol, *of_deployments, *of_recovery]))


def test_no_name_is_given_twice() -> None:
    names = [name for name in named(get_resolver().url_patterns) if not name.startswith(OF_LIBRARY)]

    assert sorted(names) == sorted(set(names))


def test_nobody_is_sent_to_the_sign_in_page(place: Place) -> None:
    client = client_of(None)

    found = {}
    for name in CASES:
        url = place.url(name)
        answers = [client.get(url), client.post(url)]
        sent = all(one.headers.get("Location", "").startswith(reverse("account_login")) for one in answers)
        found[name] = (sent, client.get(url, headers={"HX-Request": "true"}).status_code)

    assert found == dict.fromkeys(CASES, (True, 401))


def test_stranger_finds_nothing(place: Place) -> None:
    client = client_of(kite_estate()[1])

    found: dict[str, Any] = {}
    for name, case in CASES.items():
        url = place.url(name)
        answers = [client.get(url)] if case.is_own else [client.get(url), client.post(url)]
        statuses = {answer.status_code for answer in answers}
        is_hidden = statuses == {case.status} if case.is_own else statuses <= {404, 405} and 404 in statuses
        texts = [text_of(answer) for answer in answers]
        told = [word for word in SECRET_WORDS for text in texts if word in text]
        if not is_hidden or told:
            found[name] = (statuses, told)

    assert found == {}


def test_member_gets_the_page(place: Place) -> None:
    clients = {who: client_of(place.person(who)) for who in {case.who for case in CASES.values()}}

    found = {name: clients[case.who].get(place.url(name)).status_code for name, case in CASES.items()}

    assert found == {name: case.status for name, case in CASES.items()}
