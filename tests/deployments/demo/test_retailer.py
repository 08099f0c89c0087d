"""Who the demo's retailers are: the arithmetic adds up."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from deployments.demo.retailer import PROCESSES, TENANTS, TenantPlan, stores_of


def test_retailer_has_the_size_it_is_described_with() -> None:
    stores = [store for tenant in TENANTS for store in stores_of(tenant)]

    assert len(TENANTS) == 3
    assert len(stores) == 150
    assert len({store.code for store in stores}) == 150
    assert {store.city.zone for store in stores} == {"Europe/Helsinki", "Europe/Berlin", "Europe/Lisbon"}
    assert len({cohort.slug for tenant in TENANTS for cohort in tenant.cohorts}) == 12
    assert len({one.slug for tenant in TENANTS for one in tenant.environments}) == 20


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.slug)
def test_shares_of_sales_are_positive_and_add_up(tenant: TenantPlan) -> None:
    by_cohort: Counter[str] = Counter()
    for store in stores_of(tenant):
        assert Decimal(store.sales_share) > 0
        by_cohort[store.cohort] += int(Decimal(store.sales_share) * 10_000)

    assert by_cohort == {cohort.slug: cohort.share * 10_000 for cohort in tenant.cohorts}
    assert by_cohort.total() == 100 * 10_000


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.slug)
def test_every_cohort_is_served_by_exactly_one_environment(tenant: TenantPlan) -> None:
    served = Counter(slug for one in tenant.environments for slug in one.cohorts)

    assert served == {cohort.slug: 1 for cohort in tenant.cohorts}


def test_environments_name_processes_that_exist() -> None:
    named = {slug for tenant in TENANTS for one in tenant.environments for slug in one.processes}

    assert named == {one.slug for one in PROCESSES}


def test_stores_are_the_same_every_time() -> None:
    assert [stores_of(tenant) for tenant in TENANTS] == [stores_of(tenant) for tenant in TENANTS]
