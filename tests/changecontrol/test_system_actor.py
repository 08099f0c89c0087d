"""The actor of background work is read once for each connection, and never from a transaction that was rolled back."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from changecontrol import access
from changecontrol.models import User
from tests.plugin import TestDatabase


def test_the_system_user_is_remembered_once_committed(fresh_db: TestDatabase, django_assert_num_queries: Any) -> None:
    with pytest.raises(ValueError, match="no"), transaction.atomic():
        access.system_actor()
        raise ValueError("no")
    assert not User.objects.filter(username=access.SYSTEM).exists()

    known = access.system_actor().user

    with django_assert_num_queries(0):
        assert access.system_actor().user == known
    connection.close()
    assert access.system_actor().user == known
