"""Loading the demo: everything is there after the first time, and the second changes only what a start renews."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps

from changecontrol import access, clock
from changecontrol.models import (
    ChangeRequest,
    Cluster,
    Cohort,
    Environment,
    Freeze,
    Store,
    Tenant,
    User,
    Window,
)
from changecontrol.queries.windows import windows_of
from changecontrol.rules.content import Content
from changecontrol.rules.content_problems import problems
from changecontrol.rules.roles import Role
from deployments.demo import loading
from deployments.demo.manifests import BROKEN, GOOD, LEAKING, RUNNING
from tests.scenes import DEPLOY, World

pytestmark = pytest.mark.slow


def rows() -> dict[str, list[Any]]:
    """Return every row of every table by name of the model."""
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy
    }


def test_loading_again_adds_nothing_and_renews_only_the_clusters(stage: World) -> None:
    before, password = rows(), stage.password

    loading.load(stage.paths, deploy=DEPLOY, at=clock.now())

    after = rows()
    assert stage.password == password
    changed = {label for label in before if before[label] != after[label]}
    # The references of both practice clusters are renewed, which leaves an event each.
    assert changed <= {"changecontrol.Cluster", "changecontrol.AuditEvent", "changecontrol.AuditChain"}
    assert len(after["changecontrol.Cluster"]) == 2


def test_loaded_retailer_is_whole(stage: World) -> None:
    counts = {model: model.objects.count() for model in (Tenant, Store, Cohort, Environment, Cluster)}
    assert counts == {Tenant: 3, Store: 150, Cohort: 12, Environment: 20, Cluster: 2}
    assert {person.username for person in loading.PEOPLE} < set(User.objects.values_list("username", flat=True))
    for person in loading.PEOPLE:
        user = User.objects.get(username=person.username)
        assert user.check_password(stage.password)
        scope = access.scope_of(access.Actor(user=user, via="page"))
        assert scope.tenants == {
            tenant.pk: frozenset(person.roles) for tenant in Tenant.objects.filter(slug__in=person.tenants)
        }
    assert not User.objects.get(username="dee").is_superuser
    assert Role.AUDITOR in {role for person in loading.PEOPLE for role in person.roles}


def test_drafts_are_complete_and_may_be_submitted_as_they_are(stage: World) -> None:
    drafts = ChangeRequest.objects.filter(tenant__slug="northwind").order_by("pk")

    stopped = f"{GOOD.summary} (analytics)"
    assert [one.title for one in drafts] == [GOOD.summary, BROKEN.summary, LEAKING.summary, stopped]
    assert [problems(Content.from_json(one.draft)) for one in drafts] == [{}, {}, {}, {}]


def test_calendar_lets_something_run_now_and_holds_something(stage: World) -> None:
    # WIN-4
    now = clock.now()
    admin = access.Actor(user=User.objects.get(username="admin"), via="command")

    assert windows_of(access.scope_of(admin)).count() == Window.objects.count() == 3
    freeze = Freeze.objects.get()
    assert (freeze.name, freeze.starts_at < now < freeze.ends_at) == ("Peak trading", True)
    assert Window.objects.get(name="Northwind release hours").starts_local.replace(tzinfo=now.tzinfo) < now


def test_clusters_run_what_git_names_and_the_executor_has_no_more_than_it_needs(stage: World) -> None:
    # GIT-2
    for tenant, slugs in (("northwind", ("nw-pilot", "nw-finance")), ("kite", ("ko-ber",))):
        for slug in slugs:
            assert stage.images(slug) == {RUNNING.image}
            assert stage.ref(slug, tenant=tenant).message == RUNNING.summary
    bindings = stage.ask_cluster("GET", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings").json()["items"]
    assert not [one for one in bindings if "changecontrol" in one["metadata"]["name"]]
