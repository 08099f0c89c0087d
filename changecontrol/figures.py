"""What an app adds to /metrics: figures as values, which the page writes out. Settings name who contributes.

No figure names a tenant, an address or a secret (BIZ-1), and none costs more statements where there is more to tell.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, and what each label of its figure says of it."""

    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A gauge. `name` gets the prefix `changecontrol_`."""

    name: str
    text: str
    samples: tuple[Sample, ...]
    labels: tuple[str, ...] = ()
