"""Refused attempts are part of the trail (AUD-1): whoever was told no, by which action, and in which words.

Wrap the outermost action only: what a refused one had written is rolled back, and the refusal is recorded after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import Model

from changecontrol import audit
from changecontrol.errors import Conflict, DomainError, Forbidden, IllegalTransition
from changecontrol.events import Tag
from changecontrol.models import ChangeRequest, Environment, Freeze, Requirement, Run, Tenant, Window

P = ParamSpec("P")
R = TypeVar("R")

_SUBJECTS: Mapping[str, type[Model]] = {
    "change_id": ChangeRequest,
    "requirement_id": Requirement,
    "run_id": Run,
    "window_id": Window,
    "freeze_id": Freeze,
    # Before what is in it: the tenant is in sight wherever somebody is refused, the environment may be another's.
    "tenant_id": Tenant,
    "environment_id": Environment,
}


def audited_for(subjects: Mapping[str, type[Model]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return `audited` for the actions of an app that builds on this one, which name their things by these keywords."""

    def decorate(action: Callable[P, R]) -> Callable[P, R]:
        @wraps(action)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return action(*args, **kwargs)
            except (Forbidden, IllegalTransition, Conflict) as refusal:
                record_refusal(action.__name__, refusal, kwargs, subjects=subjects)
                raise

        return wrapped

    return decorate


def audited(action: Callable[P, R]) -> Callable[P, R]:
    """Record a refusal (`Forbidden`, `IllegalTransition`, `Conflict`) of this action, and raise it on.

    `NotFound` leaves nothing: an event about a thing one may not see would say that it is there. The action takes
    `actor` and `at`, and names its thing by one of the keywords above.
    """
    return audited_for(_SUBJECTS)(action)


def record_refusal(
    action: str, refusal: DomainError, words: Mapping[str, Any], *, subjects: Mapping[str, type[Model]] = _SUBJECTS
) -> None:
    """Write the one event, in a transaction of its own, on the chain of what was aimed at or else of the person."""
    actor, at = words["actor"], words["at"]
    thing = _thing(words, subjects)
    subject = thing if thing is not None else actor.user
    if subject is None:
        return  # a stranger aiming at nothing has no chain to write to
    change = _change_of(subject)
    tenant = subject.pk if isinstance(subject, Tenant) else getattr(subject, "tenant_id", None)
    with transaction.atomic():
        audit.record(
            Tag.REFUSED,
            subject=change or subject,
            actor=actor,
            at=at,
            data={"action": action, "refusal": type(refusal).__name__, "sentence": refusal.sentence},
            tenant=tenant,
            change=change,
        )


def _thing(words: Mapping[str, Any], subjects: Mapping[str, type[Model]]) -> Model | None:
    for key, model in subjects.items():
        if words.get(key) is not None:
            found: Model | None = model._default_manager.filter(pk=words[key]).first()
            return found
    return None


def _change_of(thing: Model) -> ChangeRequest | None:
    if isinstance(thing, ChangeRequest):
        return thing
    if isinstance(thing, Requirement):
        return thing.round.change
    if isinstance(thing, Run):
        return thing.change
    return None
