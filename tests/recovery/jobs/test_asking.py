"""What a drill asks of a copy: an answer is one of the copy alone."""

from __future__ import annotations

import pytest

from changecontrol.errors import Hindered, Permanent
from recovery.jobs.drill import Checks, Failed


def test_a_disk_of_ours_that_is_full_is_no_answer() -> None:
    checks = Checks()

    with pytest.raises(Hindered, match="No space left on device"), checks.asking("Every attachment", 3):
        raise Permanent("The database did not succeed: could not write to file: No space left on device")
    with pytest.raises(Failed), checks.asking("Every attachment", 3):
        raise Permanent("aa/aaaa is missing.")

    assert [(one["name"], one["is_passed"]) for one in checks.found] == [("Every attachment", False)]
