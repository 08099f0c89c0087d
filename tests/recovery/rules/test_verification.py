from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.rules.verification import Checked, CheckResult, Standing, Verdict, judge_drill, stand


@pytest.mark.parametrize(
    ("checks", "standing", "is_verified"),
    [
        ([], Standing(0, 0), False),
        ([(1, True)], Standing(1, 0), False),
        ([(2, True)], Standing(2, 0), True),
        ([(3, True), (1, True)], Standing(3, 0), True),
        # What a later check finds wrong is not hidden by an earlier pass.
        ([(2, True), (1, False)], Standing(0, 1), False),
        ([(4, True), (3, False)], Standing(2, 3), False),
        # Nor is it mended by a check that does not look there.
        ([(4, True), (3, False), (2, True)], Standing(2, 3), False),
        ([(3, False), (1, False), (2, True)], Standing(0, 3), False),
        ([(3, False), (3, True)], Standing(3, 0), True),
        ([(3, False), (4, True)], Standing(4, 0), True),
    ],
)
def test_a_point_stands_where_its_checks_left_it(
    checks: list[tuple[int, bool]], standing: Standing, is_verified: bool
) -> None:
    found = stand(Checked(level, is_passed) for level, is_passed in checks)

    assert (found, found.is_verified) == (standing, is_verified)


checks = st.lists(st.tuples(st.integers(1, 5), st.booleans()).map(lambda one: Checked(*one)))


@given(checks)
def test_a_point_is_never_verified_after_an_unmended_failure(checks: list[Checked]) -> None:
    found = stand(checks)

    failed = [index for index, one in enumerate(checks) if not one.is_passed]
    is_mended = all(
        any(one.is_passed and one.level >= checks[index].level for one in checks[index:]) for index in failed
    )
    assert not found.is_verified or is_mended


GOOD = CheckResult("pg_verifybackup", True)
BAD = CheckResult("sentinel", False)


@pytest.mark.parametrize(
    ("checks", "words", "verdict"),
    [
        ([GOOD, GOOD], {}, Verdict(True, "All 2 checks passed.")),
        ([GOOD, BAD], {}, Verdict(False, "These checks failed: sentinel.", True)),
        ([], {}, Verdict(False, "Nothing was checked.")),
        ([GOOD], {"trouble": "no disk."}, Verdict(False, "It could not be carried out: no disk.")),
        ([GOOD], {"leftovers": "/tmp/x"}, Verdict(False, "It left something behind: /tmp/x", True)),
        ([GOOD, BAD], {"is_sabotaged": True}, Verdict(True, "The sabotage was caught by: sentinel.")),
        ([GOOD], {"is_sabotaged": True}, Verdict(False, "The sabotage was not caught.", True)),
        (
            [BAD],
            {"is_sabotaged": True, "leftovers": "/tmp/x"},
            Verdict(False, "It left something behind: /tmp/x", True),
        ),
        # Trouble proves nothing, but what was found before it stands; of a sabotaged copy that was the sabotage.
        ([BAD], {"trouble": "no disk."}, Verdict(False, "It could not be carried out: no disk.", True)),
        ([BAD], {"is_sabotaged": True, "trouble": "x"}, Verdict(False, "It could not be carried out: x")),
        ([], {"is_sabotaged": True, "trouble": "no disk."}, Verdict(False, "It could not be carried out: no disk.")),
    ],
)
def test_a_drill_gets_its_verdict(checks: list[CheckResult], words: dict[str, str], verdict: Verdict) -> None:
    """BCK-8, BCK-9."""
    asked = {"trouble": "", "leftovers": "", "is_sabotaged": False, **words}

    assert judge_drill(checks, **asked) == verdict  # type: ignore[arg-type]
