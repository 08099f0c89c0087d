from __future__ import annotations

import time
from pathlib import Path

import pytest

from changecontrol.ports import INVENTORY_LABEL, ObjectRef
from deployments.rules.manifests import ImageUse, Place, Rendered, has_kustomization, images_of, render

PLACE = Place(namespace="acme-prod", inventory="acme.prod")
DIGEST = "sha256:" + "a" * 64
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"


def rendered(text: str, place: Place = PLACE) -> Rendered:
    return render({"app.yaml": text.encode()}, place=place)


def refusals(text: str, place: Place = PLACE) -> list[str]:
    return [str(one) for one in rendered(text, place).refusals]


def config(metadata: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{{metadata}}}\n"


def test_object_is_put_into_its_environment() -> None:
    (found,) = rendered("---\n---\n" + CONFIG).objects

    assert found.manifest == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "acme-prod", "labels": {INVENTORY_LABEL: "acme.prod"}},
    }
    assert (found.ref, found.file, found.document) == (
        ObjectRef("v1", "ConfigMap", "acme-prod", "settings"),
        "app.yaml",
        2,
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            CONFIG + "---\n" + config("name: a, namespace: other"),
            "app.yaml, document 2: ConfigMap a names the namespace other; this environment is acme-prod.",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}",
            "app.yaml, document 1: Namespace a is cluster-scoped, and this environment has no allowance for that kind.",
        ),
        (
            CONFIG + "---\n" + CONFIG,
            "app.yaml, document 2: ConfigMap acme-prod/settings is in app.yaml, document 1, already.",
        ),
        (
            config(f"name: a, labels: {{{INVENTORY_LABEL}: acme.test}}"),
            "app.yaml, document 1: ConfigMap a claims to belong to another environment.",
        ),
        ("just words", "app.yaml, document 1: this is no Kubernetes object."),
        ("kind: ConfigMap", "app.yaml, document 1: an object needs apiVersion, kind and metadata."),
        (
            config("generateName: a-"),
            "app.yaml, document 1: a ConfigMap has no name; generated names cannot be applied twice.",
        ),
        (config("name: a, labels: 7"), "app.yaml, document 1: the labels of ConfigMap a are no mapping."),
        (CONFIG + "data: {a: 1, a: 2}", "app.yaml: the key “a” is said twice."),
        (CONFIG + "data: {1: a}", "app.yaml: the key 1 is not text: put it in quotes."),
        (CONFIG + "data: {a: .nan}", "app.yaml: a number is infinite or none."),
        (CONFIG + "data: {a: !!binary aGk=}", "app.yaml: a value of the type bytes is not JSON."),
        (CONFIG + "data: &a {b: *a}", "app.yaml: line 4: not valid YAML (found unconstructable recursive node)."),
        ("a: [" * 61, "app.yaml: the file is nested more than 60 deep."),
        ("a: &a 1\nb: [" + "*a, " * 21 + "]", "app.yaml: the file uses more than 20 aliases."),
        ("--- 1\n" * 2001, "app.yaml: the file holds more than 2000 documents."),
        ("#" * 2_100_000, "app.yaml: the file is larger than 2048 KiB."),
        ("", "There is no manifest below the environment's path."),
    ],
)
def test_what_cannot_be_applied_is_refused_by_file_and_document(text: str, sentence: str) -> None:
    assert refusals(text) == [sentence]


@pytest.mark.parametrize("text", ["a: [", "a: !!python/object/apply:os.getcwd []", "\x00", "a: *nowhere"])
def test_broken_or_hostile_yaml_is_refused_and_not_run(text: str) -> None:
    (sentence,) = refusals(text)

    assert "not valid YAML" in sentence
    assert str(Path.cwd()) not in sentence


def test_alias_bomb_is_refused_quickly() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))

    begun = time.thread_time()
    assert refusals(bomb) == ["app.yaml: the file uses more than 20 aliases."]
    assert time.thread_time() - begun < 1


def test_cluster_scoped_kind_needs_an_allowance_and_gets_no_namespace() -> None:
    place = Place("acme-prod", "acme.prod", allowed_kinds=frozenset({"PriorityClass"}))
    text = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: tills, namespace: x}"

    (found,) = rendered(text, place).objects

    assert "namespace" not in found.manifest["metadata"]


def test_lists_are_expanded() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: ConfigMapList, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}\n"
    )

    assert [one.ref.name for one in rendered(text).objects] == ["a", "b"]


def test_list_does_not_smuggle_an_object_out_of_its_namespace() -> None:
    text = "kind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: kube-system}}]"

    assert len(refusals(text)) == 1


def test_two_versions_of_one_object_are_duplicates() -> None:
    text = "".join(f"---\napiVersion: apps/{v}\nkind: Deployment\nmetadata: {{name: web}}\n" for v in ("v1", "v1beta1"))

    assert len(refusals(text)) == 1


def test_objects_come_in_the_order_of_applying_whatever_the_files_order() -> None:
    files = {
        "a.yaml": b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}",
        "b.yml": b"apiVersion: v1\nkind: Service\nmetadata: {name: web}",
        "c.json": b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}',
        "README.md": b"not: [a manifest",
    }

    assert [one.ref.kind for one in render(files, place=PLACE).objects] == ["ConfigMap", "Service", "Deployment"]
    assert render(dict(reversed(files.items())), place=PLACE) == render(files, place=PLACE)


def test_dates_stay_text() -> None:
    (found,) = rendered(CONFIG + "data: {day: 2026-01-01}").objects

    assert found.manifest["data"] == {"day": "2026-01-01"}


def test_images_are_found_in_every_pod_template() -> None:
    containers = {
        "initContainers": [{"name": "wait", "image": "busybox:1"}],
        "containers": [{"name": "odoo", "image": f"registry.example:5000/odoo@{DIGEST}"}, {"name": "none"}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": containers}},
    }
    job = {"template": {"spec": containers}}
    cron = {"kind": "CronJob", "metadata": {"name": "web"}, "spec": {"jobTemplate": {"spec": job}}}
    ref = ObjectRef.of(deployment)

    assert images_of(deployment) == (
        ImageUse(ref, "wait", "busybox:1", ""),
        ImageUse(ref, "odoo", f"registry.example:5000/odoo@{DIGEST}", DIGEST),
    )
    assert [one.container for one in images_of(cron)] == ["wait", "odoo"]
    assert images_of({"kind": "ConfigMap"}) == ()


def test_kustomization_is_noticed_only_at_the_top() -> None:
    assert has_kustomization({"kustomization.yaml", "a.yaml"})
    assert not has_kustomization({"base/kustomization.yaml"})
