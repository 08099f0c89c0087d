"""A database that drops packets is given up before the leases end of whoever waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

from django.db import connection

from changecontrol.workflow import engine
from changecontrol.workflows.jobs import BEATS_IN_A_LEASE
from tests.plugin import ROOT, SERVICES

SAY = "import json; from django.conf import settings; print(json.dumps(settings.DATABASES['default']['OPTIONS']))"


def test_connections_give_up_well_before_a_lease_ends(db: None) -> None:
    connection.ensure_connection()

    told = {name: int(value) for name, value in connection.connection.info.get_parameters().items() if value.isdigit()}

    unanswered = timedelta(milliseconds=told["tcp_user_timeout"])
    silent = timedelta(
        seconds=told["keepalives_idle"] + told["keepalives_interval"] * told["keepalives_count"],
    )
    until_next_beat = engine.lease_for() / BEATS_IN_A_LEASE
    assert told["keepalives"] == 1
    # A beat may begin anew and wait once more.
    assert until_next_beat + max(unanswered, silent) + timedelta(seconds=told["connect_timeout"]) < engine.lease_for()


def test_what_the_address_says_of_them_holds() -> None:
    words = {**os.environ, "DATABASE_URL": f"{SERVICES.app_url.partition('?')[0]}?tcp_user_timeout=5000&keepalives=0"}

    said = json.loads(subprocess.check_output([sys.executable, "-c", SAY], cwd=ROOT, env=words))

    assert (said["tcp_user_timeout"], said["keepalives"], said["keepalives_idle"]) == ("5000", "0", 10)
