"""Codes of the second factor: wrong ones count towards the same lock-out as wrong passwords."""

from __future__ import annotations

from typing import Any

from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from axes.handlers.proxy import AxesProxyHandler
from django.core.exceptions import ValidationError


class _Counted:
    """Take no code, not even a right one, from somebody who is locked out: six digits are soon guessed."""

    user: Any

    def clean_code(self) -> str:
        if not AxesProxyHandler.is_allowed(context.request, {"username": self.user.username}):
            raise ValidationError("Too many wrong answers. Try again in a quarter of an hour.")
        code: str = super().clean_code()  # type: ignore[misc]  # allauth's
        return code


class SecondFactorForm(_Counted, AuthenticateForm):  # type: ignore[misc]  # the library has no types
    """Asked after the password."""


class ConfirmationForm(_Counted, ReauthenticateForm):  # type: ignore[misc]  # the library has no types
    """Asked again, such as before a vote on tier 0 or 1."""
