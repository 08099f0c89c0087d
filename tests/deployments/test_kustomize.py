"""Kustomize as a worker runs it: by the real program where it is installed, and by one that does as it is told."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from changecontrol.errors import Permanent
from deployments import kustomize

PROGRAM = shutil.which("kustomize")
REAL = [PROGRAM or "kustomize", "build"]
needs_program = pytest.mark.skipif(PROGRAM is None, reason="The program kustomize is not installed.")

BASE = {
    "base/kustomization.yaml": b"resources: [web.yaml]\n",
    "base/web.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {mode: base}\n",
}
OVERLAY = (
    b"resources: [../base]\n"
    b"patches: [{path: patch.yaml}]\n"
    b"configMapGenerator:\n"
    b"- {name: more, files: [key=more.txt], literals: ['url=https://shop.example/']}\n"
)
FILES = BASE | {
    "acme/kustomization.yaml": OVERLAY,
    "acme/patch.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {mode: acme}\n",
    "acme/more.txt": b"more",
}


def _script(folder: Path, body: str) -> list[str]:
    script = folder / "program"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    script.chmod(0o755)
    return [str(script)]


@needs_program
def test_overlay_is_built_by_the_program_itself() -> None:
    documents = list(yaml.safe_load_all(kustomize.build(FILES, path="acme", command=REAL)))

    found = {document["metadata"]["name"].partition("-")[0]: document["data"] for document in documents}
    assert found == {"web": {"mode": "acme"}, "more": {"key": "more", "url": "https://shop.example/"}}


@needs_program
def test_what_the_program_says_is_handed_on_without_our_folders() -> None:
    broken = FILES | {"base/web.yaml": b"kind: [\n"}

    with pytest.raises(Permanent, match="Rendering acme failed: ") as refusal:
        kustomize.build(broken, path="acme", command=REAL)

    assert "changecontrol-kustomize-" not in str(refusal.value)


@pytest.mark.parametrize(
    "written",
    [
        "resources: ['https://127.0.0.1:9/x.yaml']",
        'resources: ["https:\\x2f\\x2f127.0.0.1:9/x.yaml"]',
        "resources: [github.com/kubernetes-sigs/kustomize/examples/multibases]",
        "resources: ['git@127.0.0.1:x/y.git']",
        "resources: [../../etc]",
        "resources: [/etc/hostname]",
        "bases: ['ssh://git@127.0.0.1/x.git']",
        "components: [git::https://127.0.0.1/x.git]",
        "patches: [{path: 'https://127.0.0.1:9/p.yaml'}]",
        "patches: [{Path: patch.yaml}]",
        "Resources: [../base]",
        "patchesStrategicMerge: ['https://127.0.0.1:9/p.yaml']",
        "patchesJson6902: [{path: /etc/hostname}]",
        "replacements: [{path: ../../x}]",
        "openapi: {path: 'https://127.0.0.1:9/schema.json'}",
        "crds: ['https://127.0.0.1:9/c.json']",
        "configMapGenerator: [{name: a, files: ['k=https://127.0.0.1:9/x']}]",
        "secretGenerator: [{name: a, envs: [/proc/self/environ]}]",
        "configMapGenerator: [{name: a, env: ../../x}]",
        "generators: [gen.yaml]",
        "transformers: [gen.yaml]",
        "validators: [gen.yaml]",
        "helmCharts: [{name: odoo, repo: 'https://charts.example'}]",
        "helmChartInflationGenerator: [{chartName: odoo}]",
        "resources: &a [../base]\ncomponents: *a",
        "resources: ../base",
        "resources: [3]",
        "[]",
        "{",
    ],
)
@pytest.mark.parametrize("where", ["acme", "base"])
def test_what_is_not_in_the_commit_is_refused_before_anything_runs(tmp_path: Path, written: str, where: str) -> None:
    program = _script(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    files = FILES | {f"{where}/kustomization.yaml": written.encode(), f"{where}/gen.yaml": b"kind: Gen\n"}
    if where == "base":
        files["acme/kustomization.yaml"] = OVERLAY

    with pytest.raises(Permanent, match=f"{where}/kustomization.yaml"):
        kustomize.build(files, path="acme", command=program)

    assert not (tmp_path / "ran").exists()


def test_kustomization_nothing_builds_on_hinders_nobody(tmp_path: Path) -> None:
    program = _script(tmp_path, "print('kind: A')")
    files = FILES | {"other/kustomization.yaml": b"resources: ['https://127.0.0.1:9/x.yaml']"}

    assert kustomize.build(files, path="acme", command=program) == b"kind: A\n"


@pytest.mark.parametrize("path", ["none", "acme/none", "docs"])
def test_folder_without_a_kustomization_is_said(path: str) -> None:
    files = FILES | {"docs/readme": b"x"}

    with pytest.raises(Permanent, match=f"{path} holds no kustomization"):
        kustomize.build(files, path=path, command=["false"])


def test_program_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    program = _script(tmp_path, "print(dict(os.environ), open(sys.argv[1] + '/more.txt').read())")

    seen = kustomize.build(FILES, path="acme", command=program)

    assert b"canary" not in seen
    assert b"'GIT_ALLOW_PROTOCOL': 'none'" in seen
    assert seen.endswith(b"more\n")


def test_program_and_all_it_started_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kustomize, "SECONDS", 1)
    note = tmp_path / "pid"
    program = _script(tmp_path, f"if child := os.fork(): open({str(note)!r}, 'w').write(str(child))\ntime.sleep(60)")
    began = time.monotonic()

    with pytest.raises(Permanent, match="took longer than 1 s"):
        kustomize.build(FILES, path="acme", command=program)

    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        _wait_for_end(int(note.read_text()))


def _wait_for_end(pid: int) -> None:
    for _ in range(200):
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        time.sleep(0.02)


def test_output_and_memory_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = _script(tmp_path, "while True: sys.stdout.write('x' * 1_000_000)")
    with pytest.raises(Permanent, match="gave more than 8 MiB"):
        kustomize.build(FILES, path="acme", command=endless)

    greedy = _script(tmp_path, "x = bytearray(8 * 1024**3)")
    with pytest.raises(Permanent, match="failed: MemoryError"):
        kustomize.build(FILES, path="acme", command=greedy)


def test_program_that_is_missing_is_said() -> None:
    with pytest.raises(Permanent, match="no-such-program is not installed on this worker"):
        kustomize.build(FILES, path="acme", command=["no-such-program", "build"])
