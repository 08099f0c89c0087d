"""Everything that `make test`, `make check` and `make lint` ask of the code, one stage after another.

Prints one line a stage and the full output of those that fail. The last is pytest, whose words are shown as they come.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from changecontrol.project.local.processes import LocalServiceError
from changecontrol.project.local.services import CLONE, Services, services_for_tests

PROGRAMS = Path(sys.executable).parent
PYTHON_FOLDERS = ("changecontrol", "deployments", "recovery", "tests", "manage.py")
FAST_TESTS = "not slow and not browser"
ALL_TESTS = [
    # A browser's driver leaves an event loop in its thread, which no other test may meet: processes of their own.
    # And of cores: each keeps one busy, where others wait half their time for a database or a program.
    ["-n", "2", "tests/browser"],
    ["-m", "browser", "tests/changecontrol/components"],
    ["-m", "not browser"],
]


@dataclass(frozen=True)
class Stage:
    """One question asked of the code."""

    name: str
    command: tuple[str, ...]


# Types first: they take longest, and the others run beside them.
STAGES = (
    Stage("types", ("mypy", *PYTHON_FOLDERS)),
    Stage("format", ("ruff", "format", "--check", "--output-format", "concise", *PYTHON_FOLDERS)),
    Stage("lint", ("ruff", "check", *PYTHON_FOLDERS)),
    Stage("templates", ("djlint", "templates", "--lint", "--quiet")),
    Stage("imports", ("lint-imports",)),
    Stage("migrations", ("python", "manage.py", "makemigrations", "--check", "--dry-run")),
    Stage("settings", ("python", "manage.py", "check", "--fail-level", "WARNING")),
)


def main(arguments: list[str]) -> int:
    """Run the stages asked for; return 0 when all of them passed."""
    parser = argparse.ArgumentParser(prog="check", description=__doc__)
    parser.add_argument("extent", choices=("lint", "fast", "all"))
    parser.add_argument("--workers", default="3", help="how many pytest workers")
    asked, for_pytest = parser.parse_known_args(arguments)
    try:
        services = services_for_tests(CLONE / ".local" / "test")
    except LocalServiceError as error:
        sys.exit(str(error))
    environment = environment_for_tests(services)
    with ThreadPoolExecutor(max_workers=2) as pool:
        verdicts = list(pool.map(lambda stage: _passes(stage, environment=environment), STAGES))
    failed = [stage.name for stage, has_passed in zip(STAGES, verdicts, strict=True) if not has_passed]
    if asked.extent != "lint" and not _tests_pass(
        environment=environment, is_fast=asked.extent == "fast", workers=asked.workers, more=for_pytest
    ):
        failed.append("tests")
    if failed:
        print(f"Not passed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def environment_for_tests(services: Services) -> dict[str, str]:
    """Return this process's environment with the settings that tests and checks run under."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "changecontrol.project.settings",
        "DATABASE_URL": services.app_url,
        "MIGRATION_DATABASE_URL": services.owner_url,
        "REDIS_URL": services.redis_url,
        "SECRET_KEY": "for-tests-only-" + "0" * 40,
        "OBJECT_STORE_URL": (CLONE / ".local" / "test" / "objects").as_uri(),
        "EVIDENCE_SIGNING_KEY": "file:" + str(CLONE / ".local" / "test" / "evidence.pem"),
        "EMAIL_URL": "memory://",
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _passes(stage: Stage, *, environment: Mapping[str, str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        _resolved(stage.command), cwd=CLONE, env=dict(environment), capture_output=True, text=True, check=False
    )
    verdict = "passed" if done.returncode == 0 else "FAILED"
    lines = [f"{stage.name:<12}{verdict}  {time.monotonic() - began:5.1f} s"]
    if done.returncode != 0:
        lines.append((done.stdout + done.stderr).rstrip())
    # In one piece: another stage may print at the same moment.
    print("\n".join(lines), flush=True)
    return done.returncode == 0


def _tests_pass(*, environment: Mapping[str, str], is_fast: bool, workers: str, more: list[str]) -> bool:
    command = ["python", "-m", "pytest", "-q", "-n", workers]
    turns = [["-m", FAST_TESTS]] if is_fast else [[]] if more else ALL_TESTS
    ended = [
        subprocess.run(_resolved([*command, *turn, *more]), cwd=CLONE, env=dict(environment), check=False).returncode
        for turn in turns
    ]
    return not any(ended)


def _resolved(command: list[str] | tuple[str, ...]) -> list[str]:
    """Name the program by its path in this environment, whatever stands first on the caller's PATH."""
    return [str(PROGRAMS / command[0]), *command[1:]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
