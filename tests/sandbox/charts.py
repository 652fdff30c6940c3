"""The services' charts, where a folder of them is at hand: their default values, and what Helm makes of ours.

`CALI_TEST_CHARTS` names a folder that holds for each chart a folder `NAME`, an archive `NAME-VERSION.tgz` or its
default values alone as `NAME-VERSION.values.yaml`; `CALI_TEST_HELM` a helm binary.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

# Maps that a chart fills in part only: what is in them is the application's, not the chart's.
OPEN = {"airflow": ("config",), "milvus": (), "grafana": ("grafana.ini",)}
# Whatever a chart shows in them, they are Kubernetes' own and take what it takes.
KUBERNETES = frozenset({"resources", "annotations", "podAnnotations"})
# Charts inside these, whose values the outer one repeats in part.
INNER = {"airflow": ("postgresql",), "milvus": ("etcd", "minio"), "grafana": ()}


@dataclass(frozen=True)
class Chart:
    """A chart's default values with those of the charts inside it, the text that they stand in, and its folder.

    `folder` is None where only the values are at hand; what is in the inner charts is then not known.
    """

    name: str
    version: str
    defaults: Mapping[str, Any]
    text: str
    folder: Path | None


def chart(name: str, scratch: Path) -> Chart:
    """The chart of this name in the folder of charts; skips the test where it is not there."""
    given = os.environ.get("CALI_TEST_CHARTS")
    if not given:
        pytest.skip("CALI_TEST_CHARTS names no folder of charts")
    root = Path(given)
    for archive in sorted(root.glob(f"{name}-*.tgz")):
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        return _of_folder(name, scratch / name)
    if (root / name / "Chart.yaml").is_file():
        return _of_folder(name, root / name)
    for values in sorted(root.glob(f"{name}-*.values.yaml")):
        text = values.read_text()
        version = values.name.removeprefix(f"{name}-").removesuffix(".values.yaml")
        return Chart(name, version, yaml.safe_load(text), text, None)
    pytest.skip(f"{root} holds no chart {name}")


def _of_folder(name: str, folder: Path) -> Chart:
    text = (folder / "values.yaml").read_text()
    defaults: Object = yaml.safe_load(text)
    for inner, values in _inner(name, folder):
        defaults[inner] = _over(yaml.safe_load(values), defaults.get(inner) or {})
        text += values
    return Chart(name, yaml.safe_load((folder / "Chart.yaml").read_text())["version"], defaults, text, folder)


def _inner(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    for inner in INNER[name]:
        if (values := folder / "charts" / inner / "values.yaml").is_file():
            yield inner, values.read_text()
        for archive in (folder / "charts").glob(f"{inner}-*.tgz"):
            with tarfile.open(archive) as packed:
                member = packed.extractfile(f"{inner}/values.yaml")
                assert member is not None
                yield inner, member.read().decode()


def _over(low: Mapping[str, Any], high: Mapping[str, Any]) -> Object:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def unknown(values: Mapping[str, Any], of: Chart) -> list[str]:
    """The keys among our values that the chart does not have: a mistyped one would be taken without a word.

    What the chart leaves empty takes any keys; a key that it shows in a comment is one as well.
    """
    closed = INNER[of.name] if of.folder is None else ()
    return [
        path
        for path in _unknown(values, of.defaults, of.text, "")
        if not path.startswith(tuple(f"{one}." for one in (*closed, *OPEN[of.name])))
    ]


def _unknown(values: Mapping[str, Any], defaults: Any, text: str, at: str) -> Iterator[str]:
    for key, value in values.items():
        path = f"{at}.{key}" if at else key
        if not isinstance(defaults, Mapping) or key not in defaults:
            if not re.search(rf"^\s*#\s*{re.escape(key)}:", text, re.MULTILINE):
                yield path
        elif key in KUBERNETES:
            continue
        elif isinstance(value, Mapping) and isinstance(defaults[key], Mapping) and defaults[key]:
            yield from _unknown(value, defaults[key], text, path)


def rendered(of: Chart, namespace: str, values: Mapping[str, Any], scratch: Path) -> list[Object]:
    """The objects that a real Helm makes of the chart with these values; skips where there is none."""
    helm = os.environ.get("CALI_TEST_HELM")
    if not helm:
        pytest.skip("CALI_TEST_HELM names no helm")
    if of.folder is None:
        pytest.skip(f"only the values of the chart {of.name} are at hand")
    file = scratch / f"{of.name}.values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    done = subprocess.run(
        [
            *(helm, "template", of.name, str(of.folder), "--namespace", namespace),
            *("--values", str(file), "--kube-version", "1.35.0"),
        ],
        # Its own cache and settings stay out of it.
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


# -- looking at what was made -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """What runs pods: a Deployment, StatefulSet or Job, or the template from which Airflow makes its workers."""

    kind: str
    name: str
    replicas: int
    pod: Object

    @property
    def containers(self) -> list[Object]:
        """All of them, those that run first included."""
        spec = self.pod["spec"]
        return [*(spec.get("initContainers") or []), *spec["containers"]]

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.pod.get("metadata", {}).get("annotations") or {}


def workloads(objects: Sequence[Object]) -> list[Workload]:
    """Everything in these objects that runs pods."""
    found = [
        Workload(
            obj["kind"], obj["metadata"]["name"], obj["spec"].get("replicas", 1), obj["spec"]["template"]
        )
        for obj in objects
        if obj["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job")
    ]
    for obj in objects:
        template = (
            (obj.get("data") or {}).get("pod_template_file.yaml") if obj["kind"] == "ConfigMap" else None
        )
        if template:
            found.append(Workload("Pod", "worker", 1, yaml.safe_load(template)))
    return found


def secrets_named(workload: Workload) -> Iterator[tuple[str, str]]:
    """The Secrets that a workload reads, with the key, or an empty one where it reads all of it."""
    for container in workload.containers:
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"], reference["key"]
        for source in container.get("envFrom") or []:
            if "secretRef" in source:
                yield source["secretRef"]["name"], ""
    for volume in workload.pod["spec"].get("volumes") or []:
        if "secret" in volume:
            yield volume["secret"]["secretName"], ""


def storage_classes(objects: Sequence[Object]) -> dict[str, str]:
    """The class of every volume that is asked for, by the claim's name."""
    claims = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "PersistentVolumeClaim"}
    for obj in objects:
        for claim in obj.get("spec", {}).get("volumeClaimTemplates") or []:
            claims[f"{claim['metadata']['name']}-{obj['metadata']['name']}"] = claim
    return {name: claim["spec"].get("storageClassName", "") for name, claim in claims.items()}


def ports(objects: Sequence[Object]) -> dict[str, list[int]]:
    """The ports of every Service, by its name."""
    return {
        obj["metadata"]["name"]: [port["port"] for port in obj["spec"]["ports"]]
        for obj in objects
        if obj["kind"] == "Service"
    }
