"""Asks CEL rules within bounds of time and memory, in a process that can be killed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from changecontrol.errors import Permanent
from deployments.rules.policy import Subject

TIME_LIMIT_SECONDS = 8
"""Far above what the shipped rules take on a thousand objects, and below a tick's soft limit."""
MEMORY_LIMIT_MEGABYTES = 512
WORKER = Path(__file__).with_name("cel_worker.py")


def answer(subjects: Sequence[Subject], *, time_limit_seconds: int = TIME_LIMIT_SECONDS) -> list[bool | str]:
    """Return each subject's answer, in order: a truth value, or the text of an error.

    Raises `Permanent` where the rules cannot be evaluated within the bounds: nothing is judged then.
    """
    if not subjects:
        return []
    expressions = list(dict.fromkeys(subject.expression for subject in subjects))
    index = {expression: number for number, expression in enumerate(expressions)}
    questions = [[index[subject.expression], subject.words] for subject in subjects]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own file
            [
                sys.executable,
                "-I",
                "-S",
                str(WORKER),
                _extension_folder(),
                str(time_limit_seconds),
                str(MEMORY_LIMIT_MEGABYTES),
            ],
            input=json.dumps({"expressions": expressions, "questions": questions}),
            capture_output=True,
            text=True,
            timeout=time_limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Permanent(f"The policy rules did not come to an end within {time_limit_seconds} s.") from None
    if done.returncode != 0:
        raise Permanent("The policy rules could not be evaluated within their bounds of time and memory.")
    answers: list[bool | str] = json.loads(done.stdout)
    if len(answers) != len(subjects):
        raise Permanent("The policy rules gave an incomplete answer.")
    return answers


def tool_version() -> str:
    return version("common-expression-language")


@cache
def _extension_folder() -> str:
    found = importlib.util.find_spec("cel")
    if found is None or not found.submodule_search_locations:
        raise Permanent("The CEL evaluator is not installed.")
    return str(found.submodule_search_locations[0])
