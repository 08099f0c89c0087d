"""Who the demo's retailers are. Pure data and arithmetic: the same estate every time."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """A region: all its stores keep one zone."""

    slug: str
    name: str
    zone: str
    code: str


HELSINKI = City("helsinki", "Helsinki", "Europe/Helsinki", "HEL")
BERLIN = City("berlin", "Berlin", "Europe/Berlin", "BER")
LISBON = City("lisbon", "Lisbon", "Europe/Lisbon", "LIS")


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """A store cluster updated together. `share` is its stores' share of the tenant's sales, in percent."""

    slug: str
    city: City
    store_count: int
    share: int
    is_pilot: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentPlan:
    """One Odoo installation. Without cohorts it serves no store: a staging, or a system of the head office."""

    slug: str
    name: str
    stage: str
    cohorts: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    cluster: str = "practice"
    database: str = ""
    standby_database: str = ""
    """What its database is called where it is rehearsed; empty where it never is."""


@dataclass(frozen=True, slots=True)
class TenantPlan:
    slug: str
    name: str
    tenancy: str
    cohorts: tuple[CohortPlan, ...]
    environments: tuple[EnvironmentPlan, ...]


@dataclass(frozen=True, slots=True)
class StorePlan:
    """`sales_share` is in percent, to four places; the shares of a tenant's stores add up to 100."""

    code: str
    name: str
    city: City
    cohort: str
    sales_share: str


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    slug: str
    name: str
    tier: int
    rto_seconds: int
    rpo_seconds: int


PROCESSES = (
    ProcessPlan("checkout", "Checkout", 1, 900, 60),
    ProcessPlan("pilot-checkout", "Checkout in pilot stores", 2, 7200, 300),
    ProcessPlan("pos-sync", "POS synchronisation", 1, 1800, 60),
    ProcessPlan("replenishment", "Replenishment", 2, 14_400, 900),
    ProcessPlan("warehouse", "Warehouse", 2, 7200, 300),
    ProcessPlan("ecommerce", "eCommerce", 1, 1800, 60),
    ProcessPlan("finance", "Finance", 2, 28_800, 900),
    ProcessPlan("analytics", "Analytics", 3, 86_400, 86_400),
    ProcessPlan("rehearsal", "Rehearsal", 3, 86_400, 86_400),
)
_STORE = ("checkout", "pos-sync", "replenishment")
_PILOT = ("pilot-checkout", "replenishment")
_REHEARSAL = ("rehearsal",)

TENANTS = (
    TenantPlan(
        "northwind",
        "Northwind Grocers",
        "dedicated",
        (
            CohortPlan("nw-hel-p", HELSINKI, 4, 2, is_pilot=True),
            CohortPlan("nw-hel-a", HELSINKI, 10, 8),
            CohortPlan("nw-hel-b", HELSINKI, 10, 7),
            CohortPlan("nw-ber-a", BERLIN, 19, 27),
            CohortPlan("nw-ber-b", BERLIN, 19, 24),
            CohortPlan("nw-lis-a", LISBON, 17, 16),
            CohortPlan("nw-lis-b", LISBON, 17, 16),
        ),
        (
            EnvironmentPlan("nw-dev", "Northwind development", "development", (), _REHEARSAL),
            EnvironmentPlan("nw-staging", "Northwind staging", "staging", (), _REHEARSAL),
            EnvironmentPlan("nw-pilot", "Northwind pilot", "production", ("nw-hel-p",), _PILOT),
            EnvironmentPlan("nw-hel", "Northwind Helsinki", "production", ("nw-hel-a", "nw-hel-b"), _STORE),
            EnvironmentPlan("nw-ber", "Northwind Berlin", "production", ("nw-ber-a", "nw-ber-b"), _STORE),
            EnvironmentPlan("nw-lis", "Northwind Lisbon", "production", ("nw-lis-a", "nw-lis-b"), _STORE),
            EnvironmentPlan(
                "nw-shop",
                "Northwind web shop",
                "production",
                (),
                ("ecommerce",),
                database="nw_shop",
                standby_database="nw_shop_standby",
            ),
            EnvironmentPlan("nw-warehouse", "Northwind warehouse", "production", (), ("warehouse",)),
            EnvironmentPlan("nw-finance", "Northwind finance", "production", (), ("finance",)),
            EnvironmentPlan(
                "nw-analytics", "Northwind analytics", "production", (), ("analytics",), database="nw_analytics"
            ),
        ),
    ),
    TenantPlan(
        "alder-pine",
        "Alder & Pine",
        "shared",
        (
            CohortPlan("ap-hel", HELSINKI, 8, 24, is_pilot=True),
            CohortPlan("ap-ber", BERLIN, 16, 46),
            CohortPlan("ap-lis", LISBON, 10, 30),
        ),
        (
            EnvironmentPlan("ap-dev", "Alder & Pine development", "development", (), _REHEARSAL),
            EnvironmentPlan("ap-staging", "Alder & Pine staging", "staging", (), _REHEARSAL),
            EnvironmentPlan("ap-hel", "Alder & Pine Helsinki", "production", ("ap-hel",), _STORE),
            EnvironmentPlan("ap-ber", "Alder & Pine Berlin", "production", ("ap-ber",), _STORE),
            EnvironmentPlan("ap-lis", "Alder & Pine Lisbon", "production", ("ap-lis",), _STORE),
            EnvironmentPlan("ap-shop", "Alder & Pine web shop", "production", (), ("ecommerce",)),
        ),
    ),
    TenantPlan(
        "kite",
        "Kite Outlet",
        "shared",
        (CohortPlan("ko-ber", BERLIN, 12, 58), CohortPlan("ko-lis", LISBON, 8, 42, is_pilot=True)),
        (
            EnvironmentPlan("ko-dev", "Kite development", "development", (), _REHEARSAL),
            EnvironmentPlan("ko-staging", "Kite staging", "staging", (), _REHEARSAL),
            EnvironmentPlan("ko-ber", "Kite Berlin", "production", ("ko-ber",), _STORE),
            EnvironmentPlan("ko-lis", "Kite Lisbon", "production", ("ko-lis",), _STORE),
        ),
    ),
)

_STREETS = ("Market", "Harbour", "Station", "Park", "Mill", "Church", "River", "Garden", "Castle", "Bridge", "North")
TEN_THOUSANDTHS = 10_000


def stores_of(tenant: TenantPlan) -> list[StorePlan]:
    """Return the tenant's stores: uneven sales inside each cohort, and exactly 100 percent in all."""
    found: list[StorePlan] = []
    for cohort in tenant.cohorts:
        dice = random.Random(cohort.slug)  # noqa: S311  # the same stores every time
        weights = [dice.randint(60, 140) for _ in range(cohort.store_count)]
        total = cohort.share * TEN_THOUSANDTHS
        shares = [total * weight // sum(weights) for weight in weights]
        shares[0] += total - sum(shares)
        for number, share in enumerate(shares, 1):
            street = _STREETS[(len(found) + number) % len(_STREETS)]
            found.append(
                StorePlan(
                    code=f"{cohort.slug.upper()}-{number:02d}",
                    name=f"{cohort.city.name} {street}",
                    city=cohort.city,
                    cohort=cohort.slug,
                    sales_share=f"{share // TEN_THOUSANDTHS}.{share % TEN_THOUSANDTHS:04d}",
                )
            )
    return found
