"""Which waves a change gets where nobody planned any."""

from __future__ import annotations

import pytest

from changecontrol.models import Cohort, Environment
from deployments.resolution import ResolvedTarget, default_waves


@pytest.mark.parametrize(
    ("kind", "waves"),
    [("deploy", [("Pilot", ("pilot",)), ("production", ())]), ("restore", [("production", ())])],
)
def test_a_pilot_goes_first_unless_it_would_write_to_another_database(
    kind: str, waves: list[tuple[str, tuple[str, ...]]]
) -> None:  # BCK-4
    production = Environment(slug="production")
    cohorts = [Cohort(slug="pilot", is_pilot=True), Cohort(slug="rest")]
    drafts = [ResolvedTarget(environment=production, cohort=one, workload=one.slug, wave=-1) for one in cohorts]

    found = default_waves(drafts, tier=2, kind=kind)

    assert [(one.name, one.cohorts) for one in found] == waves
    assert {one.environments for one in found} == {("production",)}
