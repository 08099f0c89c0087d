"""A backup policy's form and the content it makes."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import pytest

from recovery.actions.policies import REACHES
from recovery.forms.policies import GROUPS, BackupPolicyForm, locked_for
from recovery.rules.policies import PolicyContent
from tests.factories import small_estate
from tests.factories.recovery import POLICY, backup_policy, policy_answers

pytestmark = pytest.mark.django_db

STARTS = datetime(2026, 11, 24, 2, 0)  # noqa: DTZ001 - wall-clock time
ZONES = ("Europe/Lisbon", "UTC")
OF_FORM = {"repeats", "days"}
"""What the form asks in place of a rule."""


def form_of(policy=None, sent: dict[str, Any] | None = None, **words: Any) -> BackupPolicyForm:
    return BackupPolicyForm(sent, policy=policy, starts=STARTS, zones=ZONES, **words)


def test_every_column_of_a_policy_is_asked_once() -> None:
    asked = [name for group in GROUPS for name in group.names]

    assert sorted(asked) == sorted({one.name for one in fields(PolicyContent)} | OF_FORM)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"rrule": "FREQ=WEEKLY;BYDAY=MO,TH", "is_pci": True, "has_sentinel": True, "wal_seconds": 10},
        {"rrule": "FREQ=DAILY;INTERVAL=1", "filestore": "", "filestore_seconds": None, "incrementals": 6},
    ],
    ids=["daily", "weekly", "by a rule"],
)
def test_what_nobody_touched_comes_back_as_it_was(words: dict[str, Any]) -> None:
    policy = backup_policy(small_estate().production, **words)

    form = form_of(policy, policy_answers(policy))

    assert form.is_valid(), form.errors
    assert form.content == replace(POLICY, **words)
    assert form.cleaned_data["seen_version"] == 1


def test_the_first_policy_is_offered_daily_at_night() -> None:
    form = form_of()

    assert (form["repeats"].initial, form["starts_local"].initial, form["zone"].initial) == ("daily", STARTS, ZONES[0])
    assert form["seen_version"].initial == 0
    assert not form.fields["reason"].required


def test_where_data_goes_is_read_and_not_taken_from_who_may_not_say_it() -> None:
    policy = backup_policy(small_estate().production)

    form = form_of(
        policy, policy_answers(policy, store="s3://elsewhere/all", keep_last="9"), locked=locked_for(is_platform=False)
    )

    assert form.is_valid(), form.errors
    assert form.content == replace(POLICY, keep_last=9)
    assert [name for name in REACHES if not form.fields[name].disabled] == []
    assert locked_for(is_platform=True) == ()


def test_a_rule_of_its_own_and_days_are_asked_where_they_are_needed() -> None:
    policy = backup_policy(small_estate().production)

    weekly = form_of(policy, policy_answers(policy, repeats="weekly"))
    own = form_of(policy, policy_answers(policy, repeats="own"))

    assert weekly.errors == {"days": ["Choose at least one day."]}
    assert own.errors == {"rrule": ["Write the rule, or choose another way to repeat."]}
