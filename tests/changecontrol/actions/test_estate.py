"""The estate, thing by thing and from a file."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from changecontrol.access import Actor, operator_actor
from changecontrol.actions.estate import KINDS, save_estate
from changecontrol.actions.estate_file import FileRefused, Loaded, load_estate
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.models import (
    AuditEvent,
    Cluster,
    Environment,
    GitSource,
    Store,
    Tenant,
    TenantUserObjectPermission,
    User,
)
from changecontrol.rules.roles import Role
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate

pytestmark = pytest.mark.django_db

FILE = """\
people:
  - username: ada
    name: Ada
    email: ada@northwind.example
    zone: Europe/Lisbon
    roles:
      - {role: engineer, tenant: northwind}
      - {role: technical_reviewer, tenant: northwind, environment: nw-prod, expires_at: 2027-01-31T18:00:00+01:00}
clusters:
  - slug: pt-1
    name: Lisbon 1
    credential: file:/run/secrets/pt-1.kubeconfig
tenants:
  - slug: northwind
    name: Northwind
    tenancy: dedicated
    regions:
      - {slug: lisbon, name: Lisbon}
    cohorts:
      - {slug: lis-1, name: Lisbon 1, is_pilot: true}
    stores:
      - code: LIS-001
        name: Rossio
        region: lisbon
        cohort: lis-1
        zone: Europe/Lisbon
        opens_at: 09:00
        closes_at: "20:30"
        sales_share: 1.5
    sources:
      - {slug: estate, name: Estate, url: /srv/git/northwind.git}
    processes:
      - {slug: checkout, name: Checkout, tier: 1, rto_seconds: 900, rpo_seconds: 60, owner: ada}
    environments:
      - slug: nw-prod
        name: Northwind production
        stage: production
        cluster: pt-1
        namespace: nw-prod
        source: estate
        path: nw-prod
        processes: [checkout]
        cohorts: [lis-1]
"""


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def root() -> Actor:
    return actor(add_person("root", is_superuser=True))


def load(text: str) -> Loaded:
    return load_estate(text, actor=operator_actor(), at=NOW)


def test_a_file_makes_the_estate_it_describes() -> None:
    loaded = load(FILE)

    environment = Environment.objects.get()
    assert loaded == Loaded(made=11, changed=0, unchanged=0)
    assert (environment.cluster.slug, environment.source.slug, environment.stage) == ("pt-1", "estate", "production")
    assert [one.slug for one in environment.processes.all()] == ["checkout"]
    store = Store.objects.get()
    assert (str(store.opens_at), str(store.closes_at), str(store.sales_share)) == ("09:00:00", "20:30:00", "1.5000")
    ada = User.objects.get(username="ada")
    assert not ada.has_usable_password()
    assert TenantUserObjectPermission.objects.get().permission.codename == "role_engineer"
    until = ada.environmentuserobjectpermission_set.get().expires_at
    assert until is not None
    assert until.isoformat() == "2027-01-31T17:00:00+00:00"


def test_the_same_file_again_changes_nothing() -> None:
    load(FILE)

    with events() as tags:
        assert load(FILE) == Loaded(made=0, changed=0, unchanged=11)

    assert tags == []


def test_what_differs_is_changed_with_its_event() -> None:
    load(FILE)

    with events() as tags:
        loaded = load(FILE.replace("name: Rossio", "name: Rossio Square"))

    assert (loaded, tags) == (Loaded(made=0, changed=1, unchanged=10), ["estate:changed"])
    assert '"differences":{"name":["Rossio","Rossio Square"]}' in AuditEvent.objects.latest("pk").body


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("zone: Europe/Lisbon\n        opens", "zone: Mars/Olympus\n        opens", "Mars/Olympus is not an IANA"),
        ("region: lisbon", "region: porto", "There is no region called “porto”"),
        ("stage: production", "stage: moon", "stage:"),
        ("name: Rossio", "name: Rossio\n        colour: red", "A store has no such field"),
        ("credential: file:/run/secrets/pt-1.kubeconfig", "credential: hunter2", "Write where the secret is"),
        ("tenancy: dedicated", "tenancy: dedicated\n    shops: 3", "A tenant has no such field"),
        ("role: engineer,", "role: king,", "“king” is no role"),
        ("tier: 1", "tier: 9", "tier:"),
        ("sales_share: 1.5", "sales_share: much", "sales_share:"),
        ("cohorts: [lis-1]", "cohorts: lis-1", "This is a list of names"),
        ("username: ada", "username: ada\n    password: x", "A person has no field called password"),
        ("clusters:", "clusterz:", "An estate file has no field called clusterz"),
        ("2027-01-31T18:00:00+01:00", "soon", "Write a time with its offset"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_nothing_is_loaded(old: str, new: str, sentence: str) -> None:
    text = FILE.replace(old, new)

    with events() as tags, pytest.raises(FileRefused) as refused:
        load(text)

    found = next(one for one in refused.value.problems if sentence in one.sentence)
    wrong = new.split("\n")[-1 if "\n    " in new and "opens" not in new else 0].strip()
    assert found.line == line_of(text, wrong)
    assert not Tenant.objects.exists()
    assert tags == []


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = FILE.replace("zone: Europe/Lisbon\n        opens", "zone: Mars\n        opens").replace("tier: 1", "tier: 9")

    with pytest.raises(FileRefused) as refused:
        load(text)

    lines = [one.line for one in refused.value.problems]
    assert {line_of(text, "zone: Mars"), line_of(text, "tier: 9")} <= set(lines)
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", 1),
        ("people:\n  - username: a\n    username: b\n", 3),
        ("[]", 1),
        ("people: 3", 1),
        ("people:\n  - 3\n", 2),
    ],
)
def test_what_is_no_estate_file_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(FileRefused) as refused:
        load(text)

    assert [one.line for one in refused.value.problems] == [line]


def test_the_command_says_what_it_did_and_where_a_file_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "estate.yaml"
    path.write_text(FILE)
    said = StringIO()

    call_command("load_estate", str(path), stdout=said)
    path.write_text(FILE.replace("tier: 1", "tier: 9"))

    assert said.getvalue() == "11 made, 0 changed, 0 unchanged.\n"
    with pytest.raises(CommandError, match=rf"{path}:\d+: tier:"):
        call_command("load_estate", str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("load_estate", str(tmp_path / "nothing.yaml"))
    with pytest.raises(CommandError, match="no platform administrator"):
        call_command("load_estate", str(path), username="ada")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_says_what_it_lacks(estate: SmallEstate, kind: str) -> None:
    with pytest.raises(Invalid) as refused:
        save_estate(actor=root(), kind=kind, answers={KINDS[kind].key: "new-one"}, tenant_id=estate.tenant.pk, at=NOW)

    assert "name" in refused.value.fields


def test_a_tenant_administrator_writes_their_own_tenant_only(estate: SmallEstate) -> None:
    kite, eve = stranger_estate()
    grant(estate.dee, Role.TENANT_ADMINISTRATOR, estate.tenant)
    words: dict[str, Any] = {"kind": "region", "answers": {"slug": "north", "name": "North"}, "at": NOW}

    with events() as tags:
        save_estate(actor=actor(estate.dee), tenant_id=estate.tenant.pk, **words)
    assert tags == ["estate:changed"]
    with pytest.raises(NotFound):
        save_estate(actor=actor(estate.dee), tenant_id=kite.tenant.pk, **words)
    with pytest.raises(Forbidden):
        save_estate(actor=actor(estate.ada), tenant_id=estate.tenant.pk, **words)
    assert eve.is_active


@pytest.mark.parametrize("slug", ["kite", "nobody-yet"])
def test_a_tenant_out_of_sight_is_refused_like_one_that_is_not_there(estate: SmallEstate, slug: str) -> None:
    stranger_estate()
    grant(estate.dee, Role.TENANT_ADMINISTRATOR, estate.tenant)

    with pytest.raises(Forbidden) as refused:
        save_estate(actor=actor(estate.dee), kind="tenant", answers={"slug": slug, "name": "Mine"}, at=NOW)

    assert refused.value.sentence == "This needs one of these roles here: tenant administrator, platform administrator."


def test_a_secret_in_place_of_a_reference_is_not_repeated(estate: SmallEstate) -> None:  # SEC-1
    with pytest.raises(Invalid) as refused:
        save_estate(actor=root(), kind="cluster", answers={"slug": "x", "name": "X", "credential": "hunter2"}, at=NOW)

    assert "hunter2" not in str(refused.value.fields)
    assert "credential" in refused.value.fields


def test_saving_what_is_already_so_leaves_no_event(estate: SmallEstate) -> None:
    answers = {"slug": "pilot", "name": "Pilot", "is_pilot": True}

    with events() as tags:
        saved = save_estate(actor=root(), kind="cohort", answers=answers, tenant_id=estate.tenant.pk, at=NOW)

    assert (saved.is_new, dict(saved.differences), tags) == (False, {}, [])


def test_only_the_platform_says_which_secret_goes_where() -> None:
    estate = small_estate()
    grant(estate.ben, Role.TENANT_ADMINISTRATOR, estate.tenant)
    theirs: dict[str, Any] = {"actor": actor(estate.ben), "kind": "source", "tenant_id": estate.tenant.pk, "at": NOW}
    ours = {**theirs, "actor": operator_actor()}
    answers = {"slug": "other", "name": "Other", "url": "https://git.example/other.git"}

    save_estate(**theirs, answers=answers)
    with pytest.raises(Forbidden, match="which secret"):
        save_estate(**theirs, answers={"slug": "other", "credential": "env:DATABASE_URL"})
    save_estate(**ours, answers={"slug": "other", "credential": "env:GIT_TOKEN"})
    with pytest.raises(Forbidden, match="which secret"):
        save_estate(**theirs, answers={"slug": "other", "url": "https://eve.example/other.git"})

    save_estate(**theirs, answers={"slug": "other", "name": "Renamed"})
    save_estate(**theirs, answers={"slug": "other", "credential": ""})
    found = GitSource.objects.get(tenant=estate.tenant, slug="other")
    assert (found.name, found.url, found.credential) == ("Renamed", "https://git.example/other.git", "")


def test_only_the_platform_says_what_an_environment_may_bring_to_a_whole_cluster() -> None:
    estate = small_estate()
    grant(estate.ben, Role.TENANT_ADMINISTRATOR, estate.tenant)
    estate.staging.cluster = Cluster.objects.create(slug="shared", name="Shared", credential="env:SHARED")
    estate.staging.save()
    theirs: dict[str, Any] = {
        "actor": actor(estate.ben),
        "kind": "environment",
        "tenant_id": estate.tenant.pk,
        "at": NOW,
    }
    ours = {**theirs, "actor": operator_actor()}

    def said(**answers: Any) -> dict[str, Any]:
        return {"slug": "production", **answers}

    with pytest.raises(Forbidden, match="cluster-scoped kinds"):
        save_estate(**theirs, answers=said(cluster_scoped_kinds=["ClusterRole"]))
    save_estate(**theirs, answers=said(cluster="shared"))
    save_estate(**ours, answers=said(cluster_scoped_kinds=["StorageClass", "PriorityClass"]))
    with pytest.raises(Forbidden, match="cluster-scoped kinds"):
        save_estate(**theirs, answers=said(cluster_scoped_kinds=["StorageClass", "ClusterRole"]))
    with pytest.raises(Forbidden, match="cluster-scoped kinds"):
        save_estate(**theirs, answers=said(cluster=estate.cluster.slug))

    save_estate(**theirs, answers=said(name="Renamed"))
    save_estate(**theirs, answers=said(cluster_scoped_kinds=["StorageClass"]))
    found = Environment.objects.get(tenant=estate.tenant, slug="production")
    assert (found.name, found.cluster.slug, found.cluster_scoped_kinds) == ("Renamed", "shared", ["StorageClass"])
