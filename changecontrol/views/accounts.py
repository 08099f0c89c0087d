"""Accounts: nobody signs up by themselves, and every sign-in, refused or not, is recorded.

Signals are the only word these libraries give; each is written down at once, in a transaction of its own.
"""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.signals import password_changed, password_set
from allauth.mfa.signals import (
    authentication_failed,
    authenticator_added,
    authenticator_removed,
    authenticator_reset,
)
from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from changecontrol import audit, clock
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import User
from changecontrol.views.edge import address_of

UNKNOWN = "sign-in:unknown"
"""The chain of sign-ins under a name nobody has. The name is not kept: it may be a password in the wrong field."""


class ClosedSignUpAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Administrators make people; the sign-up page says so."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


def name_to_count(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return what failed sign-ins are counted by: a keyed hash of the name, which may be a password as well."""
    given = credentials or {}
    name = given.get("username") or given.get("login") or request.POST.get("login") or ""
    return salted_hmac("sign-in", str(name)).hexdigest()


def _record(tag: Tag, *, user: User | None, request: HttpRequest | None, **data: str) -> None:
    actor = Actor(
        user=user if tag not in {Tag.SIGN_IN_FAILED, Tag.LOCKED_OUT} else None,
        via="page",
        source_address=address_of(request) if request is not None else None,
    )
    with transaction.atomic():
        audit.record(tag, subject=user or UNKNOWN, actor=actor, at=clock.now(), data=data)


@receiver(user_logged_in)
def record_sign_in(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    _record(Tag.SIGNED_IN, user=user, request=request)


@receiver(user_logged_out)
def record_sign_out(sender: Any, request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        _record(Tag.SIGNED_OUT, user=user, request=request)


@receiver(user_login_failed)
def record_failed_sign_in(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any
) -> None:
    name = credentials.get("username") or credentials.get("login") or ""
    _record(Tag.SIGN_IN_FAILED, user=User.objects.filter(username=name).first(), request=request)


@receiver(authentication_failed)
def count_wrong_code(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    """Let a wrong code be a failed sign-in like any other: recorded, and counted towards the lock-out."""
    user_login_failed.send(sender=sender, credentials={"username": user.username}, request=request)


@receiver([password_changed, password_set])
def record_password(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    _record(Tag.PASSWORD_CHANGED, user=user, request=request)


@receiver(user_locked_out)
def record_lock_out(sender: Any, request: HttpRequest, **_: Any) -> None:
    credentials = getattr(request, "axes_credentials", None) or {}
    name = credentials.get("username") or credentials.get("login") or ""
    _record(Tag.LOCKED_OUT, user=User.objects.filter(username=name).first(), request=request)


@receiver([authenticator_added, authenticator_removed, authenticator_reset])
def record_second_factor(sender: Any, request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    _record(Tag.SECOND_FACTOR_CHANGED, user=user, request=request, type=str(authenticator.type))
