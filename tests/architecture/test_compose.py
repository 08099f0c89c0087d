"""docker-compose.yml and Dockerfile say only what is so. No container engine runs here: this holds them instead."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import psycopg
import pytest
import yaml

from changecontrol.project import env
from changecontrol.project.local.postgres import Postgres

CLONE = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((CLONE / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("web", "worker", "jobs", "archiver", "beat", "migrate")
DOCKERFILE = (CLONE / "Dockerfile").read_text()
SETTINGS_FILES = [*(CLONE / "changecontrol" / "project" / "settings").glob("*.py")]
OF_PYTHON = {"TMPDIR"}
# What the two images read that are not ours.
OF_OTHER_IMAGES = {
    "postgres": {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD"},
    "valkey": {"VALKEY_PASSWORD"},
    "k3s": {"K3S_KUBECONFIG_OUTPUT", "K3S_KUBECONFIG_MODE"},
}
# Kubernetes in a container, and the hand-over of its credential: named here so that no third one slips in.
WITH_PRIVILEGES = {"k3s", "k3s-credential"}


def settings_variables() -> set[str]:
    """Return every environment variable that the settings read."""
    read = re.compile(r'env\.(?:text|flag|words|whole_number)\(\s*"([A-Z_]+)"|os\.environ\.get\("([A-Z_]+)"')
    return {
        name
        for path in SETTINGS_FILES
        for found in read.findall(path.read_text(encoding="utf-8"))
        for name in found
        if name
    }


def dockerfile_lines(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.removeprefix(word).strip() for line in joined.splitlines() if line.startswith(f"{word} ")]


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    schema = json.loads((CLONE / "tests" / "architecture" / "data" / "compose-spec.json").read_text())

    jsonschema.validate(COMPOSE, schema, cls=jsonschema.Draft7Validator)


def test_every_part_of_the_product_has_its_service() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "valkey", "k3s", "k3s-credential"}
    assert [name for name, service in SERVICES.items() if service.get("profiles") == ["k3s"]] == [
        "k3s",
        "k3s-credential",
    ]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_runs_as_root_or_writes_to_its_root_file_system(name: str) -> None:
    service = SERVICES[name]
    if name in WITH_PRIVILEGES:
        assert service["profiles"] == ["k3s"]
        return

    assert int(service["user"].partition(":")[0]) > 0
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_lasting_service_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    is_lasting = service.get("restart") == "unless-stopped"

    assert ("test" in service["healthcheck"]) is is_lasting
    assert service["healthcheck"].get("disable", False) is not is_lasting


@pytest.mark.parametrize("name", OURS)
def test_every_setting_given_is_one_that_the_settings_read(name: str) -> None:
    given = set(SERVICES[name]["environment"])

    assert given - settings_variables() - OF_PYTHON == set()
    assert {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"} <= given


@pytest.mark.parametrize("name", sorted(OF_OTHER_IMAGES))
def test_other_images_get_the_variables_they_read_and_no_more(name: str) -> None:
    assert set(SERVICES[name]["environment"]) == OF_OTHER_IMAGES[name]


def test_only_migrations_know_the_owner_of_the_database() -> None:
    knowing = {name for name in OURS if "changecontrol_owner" in str(SERVICES[name]["environment"])}

    assert knowing == {"migrate"}


def test_every_value_that_the_file_asks_for_is_in_the_example_and_the_reverse() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (CLONE / "docker-compose.yml").read_text()))
    offered = set(re.findall(r"^([A-Z_]+)=", (CLONE / "deploy" / "compose" / "env.example").read_text(), re.MULTILINE))

    assert asked == offered


def test_no_secret_has_a_default() -> None:
    text = (CLONE / "docker-compose.yml").read_text()

    assert re.findall(r"\$\{[A-Z_]*(?:PASSWORD|SECRET|KEY)[A-Z_]*:-", text) == []


def test_only_loopback_is_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_volumes_and_files_that_services_mount_exist() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            if isinstance(mount, dict):
                # A folder of the host: the compose program makes a missing one, empty, unless it is told not to.
                assert mount["source"].startswith("${REFERENCES_FOLDER:?")
                assert (mount["read_only"], mount["bind"]) == (True, {"create_host_path": False})
                continue
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (CLONE / source).is_file(), f"{name} mounts {source}"


def test_credentials_reach_those_who_use_them_alone() -> None:
    given = {name for name in OURS if any("kubeconfig" in str(mount) for mount in SERVICES[name]["volumes"])}
    folders = {name for name in OURS if any("REFERENCES_FOLDER" in str(mount) for mount in SERVICES[name]["volumes"])}

    assert given == folders == {"web", "worker", "jobs", "archiver"}


def test_health_check_is_let_in_whatever_the_hosts_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    written = SERVICES["web"]["environment"]["ALLOWED_HOSTS"]
    monkeypatch.setenv("ALLOWED_HOSTS", re.sub(r"\$\{.*?\}", "change.example", written))

    assert env.words("ALLOWED_HOSTS") == ["127.0.0.1", "localhost", "change.example"]
    assert all("http://127.0.0.1:8000/" in str(test) for test in (SERVICES["web"]["healthcheck"]["test"], DOCKERFILE))


def test_cluster_s_credential_is_handed_over_again_and_again(tmp_path: Path) -> None:
    """Run the very command, with folders of our own in the place of the volumes and nobody to give the file to."""
    shell, option, program = SERVICES["k3s-credential"]["command"]
    (tmp_path / "output").mkdir()
    (tmp_path / "kubeconfig").mkdir()
    ours = f"{os.getuid()}:{os.getgid()}"
    for place in ("output", "kubeconfig"):
        program = program.replace(f"/{place}/", f"{tmp_path}/{place}/")
    handed = tmp_path / "kubeconfig" / "k3s.yaml"
    for token in ("first", "second"):
        written = f"server: https://127.0.0.1:6443\ntoken: {token}\n"
        (tmp_path / "output" / "k3s.yaml").write_text(written)

        subprocess.run([shell, option, program.replace("10001:10001", ours)], check=True)

        assert handed.read_text() == written.replace("127.0.0.1", "k3s")
        assert (handed.stat().st_mode & 0o777, os.listdir(handed.parent)) == (0o600, ["k3s.yaml"])


def test_known_hosts_are_looked_for_in_the_folder_of_references() -> None:
    assert "ln -s /run/references/known_hosts /home/changecontrol/.ssh/known_hosts" in DOCKERFILE
    assert "--home-dir /home/changecontrol " in DOCKERFILE
    assert "HOME=/home/changecontrol" in DOCKERFILE


def test_services_wait_for_services_that_exist() -> None:
    waited_for = {other for service in SERVICES.values() for other in service.get("depends_on", {})}

    assert waited_for <= set(SERVICES)


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_celery_accepts_the_command(name: str) -> None:
    from celery.bin.celery import celery as program

    command = SERVICES[name]["command"]
    assert command[:3] == ["celery", "-A", "changecontrol.project.celery"]
    subcommand = program.commands[command[3]]

    known = {option for parameter in subcommand.params for option in parameter.opts}
    assert {word for word in command[4:] if word.startswith("--")} <= known


def test_gunicorn_accepts_the_image_s_command() -> None:
    from gunicorn.config import Config  # type: ignore[import-untyped]

    [written] = dockerfile_lines("CMD")
    command = json.loads(written)
    assert command[0] == "gunicorn"

    parsed = Config().parser().parse_args(command[1:])

    assert parsed.args == ["changecontrol.project.wsgi:application"]
    assert (CLONE / "changecontrol" / "project" / "wsgi.py").is_file()


@pytest.mark.parametrize(("name", "command"), [("jobs", "jobs"), ("archiver", "archive_wal")])
def test_what_recovery_needs_runs_a_command_that_exists_and_is_watched_by_its_name(name: str, command: str) -> None:
    from django.core.management import get_commands

    assert SERVICES[name]["command"] == ["python", "manage.py", command]
    assert command in get_commands()
    assert f"manage.py {command}" in SERVICES[name]["healthcheck"]["test"][1]


def test_image_brings_what_restores_a_server_and_keeps_its_folders_on_the_volume() -> None:
    assert "postgresql-17" in DOCKERFILE
    assert "procps" in DOCKERFILE
    for name in ("WAL_FOLDERS", "RECOVERY_SANDBOXES"):
        assert f"{name}=/var/lib/changecontrol/" in DOCKERFILE


def test_migrate_runs_a_command_that_exists() -> None:
    assert SERVICES["migrate"]["command"] == ["python", "manage.py", "migrate", "--no-input"]
    assert (CLONE / "manage.py").is_file()


def test_health_checks_written_in_python_compile() -> None:
    written = [service["healthcheck"]["test"] for service in SERVICES.values() if "test" in service["healthcheck"]]
    programs = [test[3] for test in written if test[:3] == ["CMD", "python", "-c"]]
    programs += [json.loads(line.partition("CMD ")[2])[2] for line in dockerfile_lines("HEALTHCHECK")]

    assert len(programs) == 3
    for program in programs:
        compile(program, "healthcheck", "exec")


def test_image_installs_by_hash_and_ends_as_an_ordinary_user() -> None:
    assert "--require-hashes" in DOCKERFILE
    assert "requirements/runtime.lock" in DOCKERFILE
    assert dockerfile_lines("USER") == ["10001:10001"]
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("RUN ")


def test_image_copies_what_exists_and_what_the_builder_is_given() -> None:
    ignore = (CLONE / ".dockerignore").read_text().splitlines()
    given = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        source for line in dockerfile_lines("COPY") if not line.startswith("--from") for source in line.split()[:-1]
    }

    assert copied == given
    assert [path for path in copied if not (CLONE / path).exists()] == []


def test_postgres_container_makes_the_roles_that_everybody_uses(tmp_path: Path) -> None:
    bash = shutil.which("sh")
    assert bash is not None
    postgres = Postgres(tmp_path / "postgres", durable=False).start()
    try:
        for database in ("postgres", "template1"):
            postgres.run_sql(
                f"\\connect {database}\nDROP DATABASE IF EXISTS changecontrol;\n"
                "DROP OWNED BY changecontrol_owner;\nDROP OWNED BY changecontrol_app;\n"
            )
        postgres.run_sql("DROP ROLE changecontrol_owner, changecontrol_app;")
        subprocess.run(
            [bash, CLONE / "deploy" / "compose" / "roles.sh"],
            check=True,
            env=os.environ
            | {"PATH": f"{postgres.tool('psql').parent}{os.pathsep}{os.environ['PATH']}"}
            | {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port)}
            | {"PGPASSWORD": postgres.superuser_url.split(":")[2].split("@")[0]}
            | {"OWNER_PASSWORD": "of-the-owner", "APP_PASSWORD": "of-the-application"}
            | {"ROLES_SQL": str(CLONE / "changecontrol" / "project" / "local" / "roles.sql")},
        )

        address = f"127.0.0.1:{postgres.port}/changecontrol"
        with psycopg.connect(f"postgresql://changecontrol_owner:of-the-owner@{address}") as owner:
            owner.execute("CREATE TABLE made (id int)")
        with psycopg.connect(f"postgresql://changecontrol_app:of-the-application@{address}") as application:
            assert application.execute("SELECT count(*) FROM made").fetchone() == (0,)
    finally:
        postgres.destroy()
