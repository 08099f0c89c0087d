"""Gets the practice estate ready for the demo: namespaces, the executor's least rights, and what already runs.

Speaks to the API server as any administrator would, with the admin kubeconfig the practice estate writes for itself.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from changecontrol.ports import FIELD_MANAGER
from deployments.demo.manifests import RUNNING, files_of
from deployments.demo.retailer import EnvironmentPlan
from deployments.practice.tls import kubeconfig, write_atomically
from deployments.rules.manifests import Place, render

HOME = "changecontrol"
"""The executor's own namespace."""
ACCOUNT = "changecontrol-executor"
TOKEN_SECONDS = 30 * 86_400
WAIT_SECONDS = 60.0


class NotReady(RuntimeError):
    """The practice estate did not come up in time."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the product is given: references only. The token is the executor's, not the administrator's."""

    kubeconfig: Path
    metrics_url: str
    metrics_token: Path
    authority: Path


class Administrator:
    """The few calls that prepare a cluster."""

    def __init__(self, state: Path) -> None:
        self._address = state / "address.json"
        self._url = ""
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy or CA bundle of the environment is not meant for loopback
        self._wait_until_ready(state)

    @property
    def url(self) -> str:
        return self._url

    def ensure(self, path: str, body: dict[str, Any]) -> None:
        """Create the object unless it is there."""
        answer = self._session.post(self._url + path, json=body, timeout=10)
        if answer.status_code != requests.codes.conflict:
            answer.raise_for_status()

    def apply(self, path: str, body: dict[str, Any]) -> None:
        answer = self._session.patch(
            f"{self._url}{path}/{body['metadata']['name']}",
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            data=json.dumps(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
            timeout=10,
        )
        answer.raise_for_status()

    def exists(self, path: str) -> bool:
        return bool(self._session.get(self._url + path, timeout=10).status_code == requests.codes.ok)

    def token_for(self, namespace: str, account: str) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        answer = self._session.post(
            f"{self._url}/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            json=body | {"spec": {"expirationSeconds": TOKEN_SECONDS}},
            timeout=10,
        )
        answer.raise_for_status()
        return str(answer.json()["status"]["token"])

    def _wait_until_ready(self, state: Path) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._answers(state):
            if time.monotonic() > deadline:
                raise NotReady("The practice estate does not answer.")
            time.sleep(0.2)

    def _answers(self, state: Path) -> bool:
        """Ask whether it is up. Read its files afresh each time: those of an earlier start name another port."""
        try:
            self._url = str(json.loads(self._address.read_text())["kubernetes"])
            self._session.verify = str(state / "ca.crt")
            self._session.headers["Authorization"] = f"Bearer {(state / 'admin.token').read_text().strip()}"
            return bool(self._session.get(f"{self._url}/readyz", timeout=2).ok)
        except (OSError, ValueError, KeyError):
            return False


def prepare(state: Path, rights: Path, environments: list[EnvironmentPlan]) -> Access:
    """Make namespaces, rights and running workloads where they are missing, and write the executor's kubeconfig."""
    admin = Administrator(state)
    binding = _prepare_account(admin, rights)
    for environment in environments:
        _prepare_namespace(admin, environment, binding)
    return _access(admin, state)


def prepare_standby(state: Path, rights: Path, rehearsing: Path) -> Access:
    """Make the rights to bring environments up and take them down again, where nothing else runs."""
    admin = Administrator(state)
    _prepare_account(admin, rights)
    for one in yaml.safe_load_all(rehearsing.read_text()):
        admin.apply(f"/apis/{one['apiVersion']}/{one['kind'].lower()}s", one)
    return _access(admin, state)


def _prepare_account(admin: Administrator, rights: Path) -> dict[str, Any]:
    """Make the executor and its role, and return what binds both in a namespace."""
    account, role, binding = yaml.safe_load_all(rights.read_text())
    admin.ensure("/api/v1/namespaces", _namespace(HOME))
    admin.ensure(f"/api/v1/namespaces/{HOME}/serviceaccounts", account)
    admin.apply("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    return dict(binding)


def _access(admin: Administrator, state: Path) -> Access:
    token = admin.token_for(HOME, ACCOUNT)
    authority = (state / "ca.crt").read_text()
    return Access(
        kubeconfig=_private(state / "executor.kubeconfig", kubeconfig(url=admin.url, authority=authority, token=token)),
        metrics_url=f"{admin.url}/prometheus",
        metrics_token=_private(state / "metrics.token", (state / "admin.token").read_text()),
        authority=_private(state / "authority.pem", authority),
    )


def _prepare_namespace(admin: Administrator, environment: EnvironmentPlan, binding: dict[str, Any]) -> None:
    namespace = environment.slug
    marker = f"/api/v1/namespaces/{namespace}/configmaps/odoo-settings"
    admin.ensure("/api/v1/namespaces", _namespace(namespace))
    bound = {**binding, "metadata": {"name": ACCOUNT, "namespace": namespace}}
    admin.apply(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", bound)
    if admin.exists(marker):
        return  # it runs already, and may run something newer by now
    rendered = render(files_of(environment, RUNNING), place=Place(namespace=namespace, inventory=namespace))
    # The marker comes last: a start that was killed half-way begins this namespace again.
    for one in sorted(rendered.objects, key=lambda one: one.ref.kind == "ConfigMap"):
        admin.apply(_collection(one.ref.api_version, one.ref.kind, namespace), dict(one.manifest))


def _collection(api_version: str, kind: str, namespace: str) -> str:
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    plural = {"NetworkPolicy": "networkpolicies"}.get(kind, kind.lower() + "s")
    return f"{root}/namespaces/{namespace}/{plural}"


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _private(path: Path, text: str) -> Path:
    write_atomically(path, text, mode=0o600)
    return path
