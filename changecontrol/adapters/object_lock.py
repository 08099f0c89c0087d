"""Asks an S3 store for its lock on one object, which obstore does not read: by a HEAD that obstore has signed.

The signed address opens the object to whoever has it, for a minute: it is not logged, and in no error. The machine says
which certificates and proxies count, as for obstore; no redirect is followed, and no `.netrc` is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import obstore
from obstore.store import S3Store

from changecontrol.ports import ObjectLock
from changecontrol.rules.years import is_within_years

SIGNED_FOR = timedelta(minutes=1)
ANSWER_SECONDS = 10
NOT_FOUND = 404
UNTIL = "x-amz-object-lock-retain-until-date"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none: the signature would go along to wherever it leads."""


def observe_s3_lock(store: S3Store, key: str) -> ObjectLock | None:
    """Return what a store says of its lock on an object; None where it has none such, or names no time that is one.

    Raises `OSError` with the status of any other answer, worded as obstore words it, or without one.
    """
    address = obstore.sign(store, "HEAD", key, SIGNED_FOR)
    try:
        # obstore made the address of an endpoint that is http or https.
        request = Request(address, method="HEAD")  # noqa: S310
        with build_opener(_NoRedirect).open(request, timeout=ANSWER_SECONDS) as answer:
            return _lock_in(answer.headers)
    except HTTPError as refusal:
        refusal.close()
        if refusal.code == NOT_FOUND:
            return None
        raise OSError(f"status code: {refusal.code}") from None
    except (OSError, HTTPException):
        raise OSError("No answer.") from None


def _lock_in(headers: Mapping[str, str]) -> ObjectLock | None:
    said = headers.get(UNTIL)
    if not said:
        return ObjectLock(until=None)
    try:
        until = datetime.fromisoformat(said)
    except ValueError:
        return None
    if until.tzinfo is None or not is_within_years(until):
        return None
    return ObjectLock(until.astimezone(UTC))
