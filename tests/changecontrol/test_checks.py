"""System checks: what is unsafe with shops behind it does not start quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from changecontrol.project.checks import check_places_of_jobs, check_rights, check_safety
from tests.plugin import ROOT, TestDatabase


def found(**settings: Any) -> list[str]:
    safe = {"EVIDENCE_SIGNING_KEY": "file:/run/secrets/evidence.pem", "DATABASE_ROLES_ARE_SEPARATE": True}
    with override_settings(**(safe | settings)):
        return [str(message.id) for message in check_safety()]


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:8200", "https://vault.retail.example"])
def test_safe_settings_pass(address: str) -> None:
    assert found(VAULT={"address": address}) == []


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"SECRET_KEY": "short"}, "changecontrol.E001"),
        ({"SECRET_KEY": "django-insecure-" + "x" * 50}, "changecontrol.E001"),
        ({"DEBUG": True}, "changecontrol.E002"),
        ({"ALLOWED_HOSTS": ["*"]}, "changecontrol.E003"),
        ({"BASE_URL": "http://changes.retail.example", "IS_HTTPS": False}, "changecontrol.E004"),
        ({"VAULT": {"address": "http://vault.retail.example:8200"}}, "changecontrol.E006"),
        ({"DATABASE_ROLES_ARE_SEPARATE": False}, "changecontrol.W001"),
        ({"EVIDENCE_SIGNING_KEY": ""}, "changecontrol.W002"),
    ],
)
def test_each_unsafe_setting_is_named(settings: dict[str, Any], problem: str) -> None:
    assert found(**settings) == [problem]


PLACE = {
    "JOBS_IN_KUBERNETES": ["restore", "drill"],
    "JOBS_CLUSTER": "file:/run/references/jobs.kubeconfig",
    "JOBS_NAMESPACE": "changecontrol-jobs",
    "JOBS_IMAGE": "registry.example/changecontrol:1",
    "JOBS_SECRET": "changecontrol-settings",
    "JOB_DISK_GIB": 200,
}


@pytest.mark.parametrize(
    "settings, sentences",
    [
        ({}, []),
        ({"JOBS_IN_KUBERNETES": [], **dict.fromkeys(list(PLACE)[1:5], ""), "JOB_DISK_GIB": 0}, []),
        (
            {"JOBS_IMAGE": "", "JOB_DISK_GIB": 0},
            ["changecontrol.E008: JOBS_IN_KUBERNETES is set, and these are not: JOBS_IMAGE, JOB_DISK_GIB."],
        ),
        (
            {"JOBS_IN_KUBERNETES": ["drills", "restore"]},
            ["changecontrol.E009: JOBS_IN_KUBERNETES names no kind: drills."],
        ),
        (
            {"JOBS_IN_KUBERNETES": [], "JOBS_CLUSTER": "", "JOBS_IMAGE": "", "JOBS_SECRET": ""},
            ["changecontrol.W003: JOBS_IN_KUBERNETES is not set, and these are: JOBS_NAMESPACE."],
        ),
        ({"JOB_MEMORY_MIB": -1}, ["changecontrol.E007: JOB_MEMORY_MIB or JOB_DISK_GIB is below 0."]),
    ],
    ids=["whole", "none", "half", "unknown kind", "rest of one", "below nothing"],
)
def test_half_a_place_for_jobs_is_named(settings: dict[str, Any], sentences: list[str]) -> None:
    with override_settings(**(PLACE | settings)):
        assert [f"{one.id}: {one.msg}" for one in check_places_of_jobs()] == sentences


def test_the_application_s_role_cannot_rewrite_the_trail(db: None) -> None:  # AUD-1
    assert check_rights(databases=["default"]) == []


def test_a_role_that_can_is_an_error(fresh_db: TestDatabase) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--database", "default"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": fresh_db.owner_url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "changecontrol.E005" in done.stderr


def test_manage_check_runs_them() -> None:
    with override_settings(EVIDENCE_SIGNING_KEY="file:/run/secrets/evidence.pem"):
        call_command("check", fail_level="WARNING")
