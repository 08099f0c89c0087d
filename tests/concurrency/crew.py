"""A crew of worker processes running `manage.py tick --forever`; one that ends is replaced, as a supervisor does.

`python -m tests.concurrency.crew COUNT`. It forks after Django has started, so that a replacement costs little; it ends
on SIGTERM and by itself after four minutes, and its workers end with it.
"""

from __future__ import annotations

import os
import signal
import sys
import types

import django
from django.core.management import call_command

from changecontrol.project.local.processes import end_with_parent

LIFE_SECONDS = 240


def main(count: int) -> None:
    signal.signal(signal.SIGTERM, _end)
    signal.alarm(LIFE_SECONDS)
    signal.signal(signal.SIGALRM, _end)
    django.setup()
    for _ in range(count):
        _fork()
    while True:
        os.wait()
        _fork()


def _fork() -> None:
    ends_with_crew = end_with_parent(signal.SIGKILL)
    if os.fork():
        return
    ends_with_crew()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        call_command("tick", "--forever", "--every", "0.1")
    finally:
        os._exit(0)


def _end(*_: int | types.FrameType | None) -> None:
    # The kernel ends the workers with us.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
