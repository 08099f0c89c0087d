from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "changecontrol" / "project" / "local" / "system.py"


def run(purpose: str, *, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, purpose], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_without_browser_and_apt_a_sentence_says_what_to_install_and_what_is_skipped(tmp_path: Path) -> None:
    done = run("test", path=str(tmp_path))

    assert done.returncode == 0
    assert (
        "Chromium is not installed, so the browser tests are skipped. On Debian or Ubuntu: apt-get install chromium"
    ) in done.stdout.splitlines()


def test_with_a_browser_nothing_is_said_about_it(tmp_path: Path) -> None:
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)

    assert "Chromium" not in run("test", path=str(tmp_path)).stdout


def test_the_demo_needs_no_browser(tmp_path: Path) -> None:
    assert "Chromium" not in run("demo", path=str(tmp_path)).stdout
