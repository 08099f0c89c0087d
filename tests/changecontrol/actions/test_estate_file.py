"""Estate files that somebody wrote in a hurry, or to do harm: refused whole, by line, and in no time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from changecontrol import access
from changecontrol.actions.estate_file import FileRefused, Loaded, load_estate
from changecontrol.models import AuditEvent, Region, Tenant, TenantUserObjectPermission, User
from changecontrol.rules.years import OUTSIDE
from tests.factories import NOW, add_person

pytestmark = pytest.mark.django_db

HEAD = """tenants:
  - slug: northwind
    name: Northwind
    regions:
"""
ANCHORS = "An estate file has no anchors and references (& and *): write it out."
TAGS = "An estate file has no tags (!): write plain values."
UNSTORABLE = "Text cannot hold the character U+0000 or half of a surrogate pair."
BOMB = "".join(
    f"      - {{slug: r{turn}, name: &n{turn} [{', '.join([f'*n{turn - 1}' if turn else 'x'] * 10)}]}}\n"
    for turn in range(9)
)
ROLE = "people:\n  - {{username: ada, name: Ada, roles: [{{role: {}, tenant: northwind, expires_at: {}}}]}}\n"


def load(text: str) -> Loaded:
    return load_estate(text, actor=access.operator_actor(), at=NOW)


@pytest.mark.parametrize(
    "text, line, sentence",
    [
        (HEAD + BOMB, 5, ANCHORS),
        ("tenants: &t\n  - *t\n", 1, ANCHORS),
        (HEAD + "      - {<<: *r, slug: r2}\n", 5, ANCHORS),
        ("tenants: " + "[" * 5_000, 1, "This is nested too deeply."),
        ("tenants: " + "{a: " * 5_000, 1, "This is nested too deeply."),
        (HEAD + "      - !x {slug: r}\n", 5, TAGS),
        (HEAD + '      - {slug: r, name: !!python/object/apply:os.system ["id"]}\n', 5, TAGS),
        (HEAD + '      - slug: r\n        name: "a\\0b"\n', 6, UNSTORABLE),
        (HEAD + '      - {slug: r, name: "\\uD800"}\n', 5, UNSTORABLE),
        (HEAD + "      - {slug: r, name: {a: b}}\n", 5, "name: Write a single value here."),
        (HEAD + "      - {slug: r, name: [a]}\n", 5, "name: Write a single value here."),
        (HEAD + "      - {slug: r, name: true}\n", 5, "name: Write a single value here."),
        (
            HEAD + "      - {slug: r, name: A}\n      - {slug: r, name: B}\n",
            6,
            "The region “r” stands on line 5 already.",
        ),
        (HEAD + "      [{slug: r, name: A}, {slug: r, name: B}]\n", 5, "The region “r” stands on line 5 already."),
        ("people: [{username: zoe}, {username: zoe}]\n", 1, "The person “zoe” stands on line 1 already."),
        ("people: [{username: Ben}]\n", 1, "This user name is taken."),
        ("people: [{username: бen}]\n", 1, "Use the letters a to z, digits and @ . + - _ only."),
        (ROLE.format("[engineer]", "2027-01-01"), 2, "“['engineer']” is no role that can be granted on a tenant."),
        (
            ROLE.format("engineer", "soon"),
            2,
            "Write a time with its offset, such as 2027-01-31T18:00:00+01:00.",
        ),
        (ROLE.format("engineer", '"9999-12-31T23:59:59-23:59"'), 2, OUTSIDE),
        (ROLE.format("engineer", "0001-01-01"), 2, OUTSIDE),
    ],
)
def test_what_cannot_be_is_refused_by_line_and_nothing_of_it_is_there(text: str, line: int, sentence: str) -> None:
    add_person("ben")
    if not text.startswith("tenants"):
        Tenant.objects.create(slug="northwind", name="Northwind")
    before = (Tenant.objects.count(), User.objects.exclude(is_system=True).count(), AuditEvent.objects.count())

    with pytest.raises(FileRefused) as refused:
        load(text)

    assert [(one.line, one.sentence) for one in refused.value.problems] == [(line, sentence)]
    after = (Tenant.objects.count(), User.objects.exclude(is_system=True).count(), AuditEvent.objects.count())
    assert (after, Region.objects.count()) == (before, 0)


@pytest.mark.parametrize("written", ["2027-01-01T00:00:00+20:00", '"2027-01-01T00:00:00+20:00"'])
def test_any_offset_names_a_moment(written: str) -> None:
    Tenant.objects.create(slug="northwind", name="Northwind")

    load(ROLE.format("engineer", written))

    assert TenantUserObjectPermission.objects.get().expires_at == datetime(2026, 12, 31, 4, tzinfo=UTC)
