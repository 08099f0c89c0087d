"""What an Odoo database and its copies say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class OdooModule:
    """A module as a database knows it. `state` is Odoo's word: `installed`, `uninstalled`, `to upgrade` and so on."""

    name: str
    version: str
    state: str

    @property
    def is_installed(self) -> bool:
        return self.state in ("installed", "to upgrade", "to remove")

    @property
    def is_left_over(self) -> bool:
        """Say whether a module was to be installed, upgraded or removed, and was not."""
        return self.state.startswith("to ")


@dataclass(frozen=True, slots=True)
class OdooFacts:
    """What an Odoo database says of itself. `version` is that of `base`; times are of the newest row there is.

    `uuid_sha256` tells a copy that kept its source's identity from one that has its own, without keeping it.
    """

    version: str
    modules: tuple[OdooModule, ...]
    newest_sale_order_at: datetime | None
    newest_pos_order_at: datetime | None
    uuid_sha256: str

    @property
    def installed(self) -> tuple[tuple[str, str], ...]:
        """Return name and version of every installed module, as a recovery point keeps them."""
        return tuple((module.name, module.version) for module in self.modules if module.is_installed)


@dataclass(frozen=True, slots=True, order=True)
class OdooAttachment:
    """A file that a database names: `name` is `xx/sha1`, `sha1` what it says of the content, `size` in bytes."""

    name: str
    sha1: str
    size: int


class NeutralisedBy(StrEnum):
    """What made a copy harmless: Odoo's own command and then our SQL, or our SQL alone."""

    ODOO = "odoo"
    SQL = "sql"


@dataclass(frozen=True, slots=True, order=True)
class NeutralisationFinding:
    """Something in a copy that could still reach the world outside. `subject` is a table; no value is ever repeated."""

    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class OdooCheck:
    """One check of a copy that was booted (level 4)."""

    name: str
    level: int
    is_passed: bool
    sentence: str
