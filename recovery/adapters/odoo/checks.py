"""Level 4: a neutralised copy is booted in a sandbox and sells something. What is started for it ends with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from changecontrol.errors import Permanent
from recovery.adapters.odoo.api import OdooApi, OdooRefused, temporary_key
from recovery.adapters.odoo.commands import (
    database_of,
    has_command,
    observe_series,
    role_for_odoo,
    series_of,
    unloaded_modules,
)
from recovery.adapters.odoo.databases import observe_odoo
from recovery.adapters.odoo.neutralising import observe_neutralised
from recovery.adapters.odoo.places import Place, make_place, tear_down_odoo
from recovery.adapters.odoo.sale import make_synthetic_sale
from recovery.adapters.odoo.server import booted, link_filestore
from recovery.ports.odoo import OdooCheck, OdooFacts

LEVEL = 4
BOOT_SECONDS = 300.0
ALL_SECONDS = 1800.0
NAMED = 5
SELLING = ("sale_stock",)


def run_odoo_checks(*, database_url: str, filestore: Path, folder: Path, run_id: str) -> tuple[OdooCheck, ...]:
    """Boot a neutralised copy and question it; return what was found, in the order it was asked.

    The copy is one that nobody keeps: Odoo writes to the database and owns the filestore. One that is not neutralised
    is never started. Everything is done below `folder`, in a folder of the run that is gone afterwards; call it from
    the main thread. Raises `Permanent` where no Odoo here fits, `Transient` where the database is away.
    """
    facts = observe_odoo(database_url)
    if facts is None:
        raise Permanent("This is not an Odoo database, so there is nothing to boot.")
    _check_code(facts)
    neutralised = _neutralised(database_url)
    if not neutralised.is_passed:
        return (neutralised,)
    place = make_place(folder, run_id=run_id)
    try:
        with role_for_odoo(database_url, run_id=run_id) as url:
            link_filestore(place, database=database_of(url), filestore=filestore)
            checks = [neutralised, _modules(facts)]
            try:
                with temporary_key(database_url) as key, booted(place, url=url, seconds=BOOT_SECONDS) as odoo:
                    checks.append(
                        _passed("boot", f"Odoo {series_of(facts.version)} answered after {odoo.seconds:.0f} s.")
                    )
                    ends_at = time.monotonic() + ALL_SECONDS
                    with OdooApi(address=odoo.address, database=database_of(url), key=key, ends_at=ends_at) as api:
                        checks.extend(_questions(api, facts, place=place, url=url))
            except OdooRefused as refusal:
                checks.append(_failed("boot", refusal.sentence))
            return tuple(checks)
    finally:
        tear_down_odoo(folder, run_id=run_id)


def _check_code(facts: OdooFacts) -> None:
    if not has_command():
        raise Permanent("No Odoo is configured here, so no copy can be booted: set ODOO_COMMAND.")
    series, wanted = observe_series(), series_of(facts.version)
    if series != wanted:
        raise Permanent(
            f"The database is of Odoo {wanted or 'an unknown series'}, and ODOO_COMMAND runs Odoo {series}."
        )


def _neutralised(url: str) -> OdooCheck:
    findings = observe_neutralised(url)
    if findings:
        return _failed("neutralised", "It was not started. " + _some([finding.sentence for finding in findings]))
    return _passed("neutralised", "Nothing in the copy can reach the world outside.")


def _modules(facts: OdooFacts) -> OdooCheck:
    left = [module.name for module in facts.modules if module.is_left_over]
    if left:
        return _failed("modules", f"These modules were left to be installed, upgraded or removed: {_some(left)}.")
    return _passed("modules", f"{len(facts.installed)} modules are installed, and none is left to upgrade.")


def _questions(api: OdooApi, facts: OdooFacts, *, place: Place, url: str) -> Iterator[OdooCheck]:
    """Ask the running copy: its registry and code first, for nothing works without."""
    try:
        yield _code(api, place)
        if any(name not in dict(facts.installed) for name in SELLING):
            yield _passed("synthetic sale", "Sales and inventory are not installed together, so there is none to try.")
        else:
            yield _passed("synthetic sale", make_synthetic_sale(api, url=url))
    except OdooRefused as refusal:
        yield _failed("synthetic sale", refusal.sentence)


def _code(api: OdooApi, place: Place) -> OdooCheck:
    """Compare the database with the code that runs: `installed_version` is the code's, whatever its name says."""
    fields = ["installed_version", "latest_version"]
    try:
        [base] = api.call("ir.module.module", "search_read", domain=[["name", "=", "base"]], fields=fields)
    except OdooRefused as refusal:
        return _failed("code", refusal.sentence)
    if missing := unloaded_modules(place):
        return _failed(
            "code", f"Odoo has no code for these modules; ODOO_ADDONS names their folders: {_some(missing)}."
        )
    if base["installed_version"] != base["latest_version"]:
        return _failed(
            "code", f"The database has base {base['latest_version']}, and the code is {base['installed_version']}."
        )
    return _passed("code", f"The registry loads, and base {base['latest_version']} is that of the code.")


def _some(words: Sequence[str]) -> str:
    more = f", and {len(words) - NAMED} more" if len(words) > NAMED else ""
    separator = " " if words[0].endswith(".") else ", "
    return separator.join(words[:NAMED]) + more


def _passed(name: str, sentence: str) -> OdooCheck:
    return OdooCheck(name=name, level=LEVEL, is_passed=True, sentence=sentence)


def _failed(name: str, sentence: str) -> OdooCheck:
    return OdooCheck(name=name, level=LEVEL, is_passed=False, sentence=sentence)
