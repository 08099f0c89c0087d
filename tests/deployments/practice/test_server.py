"""The server around the estate: credentials, state folder, restarts, seeds, the command, and the clients people use."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.practice import make_schema
from deployments.practice.seed import seed_from, seed_of
from deployments.practice.server import PracticeServer
from tests.deployments.practice.conftest import Rehearsal, client_of

ROOT = Path(__file__).resolve().parents[3]
KUBECTL = shutil.which("kubectl")


def _manifest(name: str, image: str = "registry.example/odoo:19.0-1") -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "odoo", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "seeded"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def test_kubeconfig_holds_all_it_needs_and_only_its_owner_reads_it(practice: PracticeServer) -> None:
    document = yaml.safe_load(practice.kubeconfig.read_text())

    (cluster,), (user,) = document["clusters"], document["users"]
    authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    assert cluster["cluster"] | {"certificate-authority-data": ""} == {
        "server": practice.url,
        "certificate-authority-data": "",
    }
    assert user["user"] == {"token": practice.admin_token}
    assert authority == (practice.state / "ca.crt").read_text()
    for name in ("kubeconfig", "server.key", "admin.token"):
        assert stat.S_IMODE((practice.state / name).stat().st_mode) == 0o600


def test_certificate_is_trusted_only_through_the_estates_own_authority(practice: PracticeServer) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{practice.url}/readyz")

    context = ssl.create_default_context(cafile=str(practice.state / "ca.crt"))
    with urllib.request.urlopen(f"{practice.url}/readyz", context=context) as answer:
        assert answer.read() == b"ok"


def test_estate_keeps_its_objects_and_credentials_over_a_restart(tmp_path: Path) -> None:
    seed = seed_of(namespaces=[{"name": "seeded", "labels": {"tenant": "acme"}}], manifests=[_manifest("odoo")])
    path = "/apis/apps/v1/namespaces/seeded/deployments/odoo"
    with PracticeServer.start(state=tmp_path, speed=20, keeps_objects=True, seed=seed) as server:
        client, token, authority = client_of(server), server.admin_token, server.credentials.authority
        client.until(path, lambda answer: "NewReplicaSetAvailable" in str(answer.body["status"]))
        before = client.ask("GET", path).body
        client.close()

    with PracticeServer.start(state=tmp_path, speed=20, keeps_objects=True, seed=seed) as server:
        client = client_of(server)
        after = client.ask("GET", path).body
        pods = client.ask("GET", "/api/v1/namespaces/seeded/pods").body["items"]
        client.apply(path, _manifest("odoo", "registry.example/odoo:19.0-2"))
        moved = client.until(path, lambda answer: answer.body["status"].get("observedGeneration") == 2).body
        client.close()
        assert (server.admin_token, server.credentials.authority) == (token, authority)

    assert after == before
    assert len(pods) == 1
    assert int(moved["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])


def test_restart_leaves_alone_what_was_released_since_the_seed(tmp_path: Path) -> None:
    seed = seed_of(namespaces=[{"name": "seeded"}], manifests=[_manifest("odoo")])
    path = "/apis/apps/v1/namespaces/seeded/deployments/odoo"
    with PracticeServer.start(state=tmp_path, keeps_objects=True, seed=seed) as server:
        client = client_of(server)
        client.apply(path, _manifest("odoo", "registry.example/odoo:19.0-2"))
        account = "/api/v1/namespaces/seeded/serviceaccounts"
        client.ask("POST", account, {"metadata": {"name": "executor"}})
        token = client.ask("POST", f"{account}/executor/token", {}).body["status"]["token"]
        client.close()

    with PracticeServer.start(state=tmp_path, keeps_objects=True, seed=seed) as server:
        client = client_of(server)
        body = client.ask("GET", path).body
        known = client.ask("GET", "/version", token=token).status
        forged = client.ask("GET", "/version", token=token[:-4] + "0000").status
        client.close()

    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/odoo:19.0-2"
    assert (known, forged) == (200, 401)


def test_official_dynamic_client_applies_watches_and_deletes(rehearsal: Rehearsal) -> None:
    from kubernetes import config, dynamic

    with config.new_client_from_config(str(rehearsal.server.kubeconfig)) as api:
        deployments = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
        where = {"name": "odoo", "namespace": rehearsal.namespace}

        made = deployments.server_side_apply(body=rehearsal.deployment(), field_manager="changecontrol", **where)
        rehearsal.settled()
        events = list(deployments.watch(namespace=rehearsal.namespace, timeout=1))
        deployments.delete(**where)

    assert made.metadata.generation == 1
    assert events[-1]["object"].status.availableReplicas == 2
    assert rehearsal.client.ask("GET", rehearsal.path("deployments", "odoo")).status == 404


def test_estate_that_does_not_keep_objects_starts_empty(tmp_path: Path) -> None:
    seed = seed_of(namespaces=[{"name": "seeded"}])
    with PracticeServer.start(state=tmp_path, seed=seed):
        pass

    with PracticeServer.start(state=tmp_path) as server:
        client = client_of(server)
        assert client.ask("GET", "/api/v1/namespaces/seeded").status == 404
        client.close()
    assert not (tmp_path / "objects.json").exists()


def test_seed_from_files_makes_the_namespaces_they_name(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump_all([_manifest("one"), _manifest("two")]))

    with PracticeServer.start(state=tmp_path / "state", seed=seed_from(folder)) as server:
        client = client_of(server)
        items = client.ask("GET", "/apis/apps/v1/namespaces/seeded/deployments").body["items"]
        client.close()

    assert [item["metadata"]["name"] for item in items] == ["one", "two"]
    assert items[0]["metadata"]["managedFields"][0]["manager"] == "changecontrol"


def test_seed_that_does_not_fit_stops_the_start_with_its_reason(tmp_path: Path) -> None:
    seed = seed_of(namespaces=[{"name": "seeded"}], manifests=[{**_manifest("odoo"), "kind": "Nonsense"}])

    with pytest.raises(Exception, match="no kind 'Nonsense' in 'apps/v1' is served here"):
        PracticeServer.start(state=tmp_path, seed=seed)


def test_two_estates_stand_beside_each_other(tmp_path: Path) -> None:
    with (
        PracticeServer.start(state=tmp_path / "one") as one,
        PracticeServer.start(state=tmp_path / "two") as two,
    ):
        client = client_of(two)
        assert one.port != two.port
        assert client.ask("GET", "/version", token=one.admin_token).status == 401
        client.close()


def test_command_runs_the_estate_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "practice", "--state", str(tmp_path), "--speed", "20"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        addresses = json.loads((tmp_path / "address.json").read_text())
        process.terminate()
        process.wait(20)

    assert line == f"The practice estate answers at {addresses['kubernetes']}; kubeconfig: {tmp_path / 'kubeconfig'}\n"
    assert addresses["prometheus"] == addresses["kubernetes"] + "/prometheus"
    assert process.returncode == 0
    assert (tmp_path / "objects.json").exists()


def test_core_runs_without_django() -> None:
    program = "import sys, deployments.practice.server, deployments.practice.seed; print('django' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"


def test_schema_is_what_the_published_definitions_say() -> None:
    pytest.importorskip("kubernetes_validate")

    table = make_schema.compact_table(make_schema.published_definitions())

    assert json.loads(make_schema.TARGET.read_text()) == table


@pytest.mark.skipif(KUBECTL is None, reason="There is no kubectl on this machine.")
def test_kubectl_applies_and_waits_for_a_rollout(rehearsal: Rehearsal, tmp_path: Path) -> None:
    (tmp_path / "odoo.json").write_text(json.dumps(rehearsal.deployment()))

    def kubectl(*words: str) -> str:
        command = [
            str(KUBECTL), "--kubeconfig", str(rehearsal.server.kubeconfig), "--cache-dir", str(tmp_path), "-n",
            rehearsal.namespace, *words,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert (
        kubectl("apply", "--server-side", "-f", str(tmp_path / "odoo.json"))
        == "deployment.apps/odoo serverside-applied\n"
    )
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/odoo", "--timeout=30s")
    assert kubectl("get", "deployments", "-o", "name") == "deployment.apps/odoo\n"
    assert kubectl("scale", "deployment/odoo", "--replicas=3") == "deployment.apps/odoo scaled\n"
    assert kubectl("delete", "deployment", "odoo", "--timeout=30s") == 'deployment.apps "odoo" deleted\n'
