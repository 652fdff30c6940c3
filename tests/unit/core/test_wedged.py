"""Releases that stand in their own way: found, told why, put right, and the next apply goes through."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.core import releases as records
from cali_infra.core.stages import BY_NAME
from cali_infra.core.wedged import AT_WORK, RELEASES, REMEDIES, Remedy, Wedged, find, mend
from cali_infra.errors import ConflictError
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.sandbox.helm.cluster import Access, Credentials
from cali_infra.sandbox.helm.cluster import Cluster as HelmCluster
from cali_infra.sandbox.helm.releases import (
    Mishap,
    Mishaps,
    Release,
    ReleaseError,
    Releases,
    Upgrade,
    encode,
)

if TYPE_CHECKING:
    from conftest import Cluster

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATER = START + timedelta(hours=1)
CHART = ChartVersion("grafana", "12.11.1", "13.2.0")
ROOT = Path(__file__).parents[3]


class Helm:
    """Helm as the stand-in has it, in the namespace of a service."""

    def __init__(self, cluster: Cluster, namespace: str = "grafana") -> None:
        self.kubernetes: Kubernetes = cluster.connect()
        self.mishaps = Mishaps()
        if self.kubernetes.get(ObjectRef("v1", "Namespace", None, namespace)) is None:
            self.kubernetes.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        access = Access(cluster.address.endpoint, cluster.address.ca_pem.decode(), token="admin")
        reached = HelmCluster(access, Credentials({}, lambda: START))
        self.releases = Releases(reached, namespace, lambda: START, self.mishaps)

    def install(self, mishap: Mishap | None = None, name: str = "grafana", *, atomic: bool = False) -> str:
        """Install, and return Helm's error where there is one."""
        return self._try(mishap, name, lambda: self.releases.install(name, CHART, {}, atomic=atomic))

    def upgrade(self, mishap: Mishap | None = None, name: str = "grafana", *, atomic: bool = False) -> str:
        how = Upgrade(atomic=atomic)
        return self._try(mishap, name, lambda: self.releases.upgrade(name, CHART, {}, how))

    def find(self, *stages: str, now: datetime = LATER, off: str = "") -> tuple[Wedged, ...]:
        return find(self.kubernetes, stages or ("services",), now, lambda service: service != off)[0]

    def statuses(self, name: str = "grafana") -> list[str]:
        return [release.status for release in self.releases.history(name)]

    def _try(self, mishap: Mishap | None, name: str, do: Callable[[], Release]) -> str:
        if mishap:
            self.mishaps.happen(name, mishap)
        try:
            do()
        except ReleaseError as error:
            return str(error)
        return ""


def remedied(helm: Helm) -> list[str]:
    said: list[str] = []
    (one,) = helm.find()
    mend(helm.kubernetes, one, said.append)
    return said


def test_a_first_install_that_was_killed_is_uninstalled_and_can_be_made_again(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install(Mishap.KILLED)
    assert "cannot re-use a name" in helm.install()

    (one,) = helm.find()
    assert (one.last.status, one.remedy, one.stage) == ("pending-install", Remedy.UNINSTALL, "services")
    assert "grafana/grafana is pending-install (revision 1 since 2026-01-01 12:00 UTC)" in str(one)
    assert "Initial install underway" in str(one)
    assert remedied(helm) == ["deleting Secret grafana/sh.helm.release.v1.grafana.v1"]

    assert helm.install() == ""
    assert helm.find() == ()


def test_an_upgrade_that_was_killed_is_taken_off_the_record_and_helm_goes_on(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install()
    helm.upgrade(Mishap.KILLED)
    assert "another operation" in helm.upgrade()

    (one,) = helm.find()
    assert one.remedy is Remedy.ROLL_BACK
    assert remedied(helm) == ["deleting Secret grafana/sh.helm.release.v1.grafana.v2"]

    assert helm.statuses() == ["deployed"]
    assert helm.upgrade() == ""


def test_a_first_install_that_failed_is_uninstalled(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install(Mishap.TIMEOUT)
    assert "cannot re-use a name" in helm.install()

    (one,) = helm.find()
    assert (one.remedy, one.at_work) == (Remedy.UNINSTALL, False)
    remedied(helm)
    assert helm.install() == ""


def test_what_helm_takes_back_by_itself_is_nothing_to_speak_of(cluster: Cluster) -> None:
    helm = Helm(cluster)
    assert "uninstalled due to atomic" in helm.install(Mishap.TIMEOUT, atomic=True)
    assert helm.statuses() == []
    helm.install()
    assert "rolled back due to atomic" in helm.upgrade(Mishap.TIMEOUT, atomic=True)

    assert helm.statuses() == ["superseded", "failed", "deployed"]
    assert helm.find() == ()


def test_an_upgrade_that_failed_is_told_and_left_to_the_next_one(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install()
    helm.upgrade(Mishap.TIMEOUT)

    found, (note,) = find(helm.kubernetes, ("services",), LATER, lambda service: True)
    assert found == ()
    assert "context deadline exceeded" in note
    assert helm.upgrade() == ""


def test_what_may_still_be_at_work_is_marked(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install(Mishap.KILLED)

    assert [one.at_work for one in helm.find(now=START + AT_WORK - timedelta(seconds=1))] == [True]
    assert [one.at_work for one in helm.find(now=START + AT_WORK)] == [False]


def test_the_longest_a_release_takes_is_shorter_than_what_counts_as_at_work() -> None:
    found = [
        int(seconds)
        for path in (ROOT / "terraform").glob("*/*.tf")
        for seconds in re.findall(r"^\s*timeout\s*=\s*(\d+)", path.read_text(), re.M)
    ]
    # To come up, and to be taken back.
    assert timedelta(seconds=2 * max(found)) <= AT_WORK


def test_the_releases_are_those_of_the_stacks() -> None:
    for stage, expected in RELEASES.items():
        assert stage in BY_NAME
        text = "".join(path.read_text() for path in (ROOT / "terraform" / stage).glob("*.tf"))
        named = re.findall(r'resource "helm_release".*?\n\s+name\s+= "([^"]+)"', text, re.S)
        assert set(named) == {name for _, name in expected}


def test_only_the_releases_of_what_is_worked_on_are_looked_at(cluster: Cluster) -> None:
    Helm(cluster).install(Mishap.KILLED)
    helm = Helm(cluster, "kube-system")
    helm.install(Mishap.KILLED, "cluster-autoscaler")

    assert [one.last.name for one in helm.find("autoscaler", "services")] == ["cluster-autoscaler", "grafana"]
    assert [one.last.name for one in helm.find("autoscaler")] == ["cluster-autoscaler"]
    assert helm.find("network", "storage") == ()
    assert helm.find("services", off="grafana") == ()


MANIFEST = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "grafana"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "somebody-else-s"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}},
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "grafana"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
    {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "never-made"}},
]


def test_an_uninstall_deletes_what_is_the_release_s_own_and_leaves_volumes(cluster: Cluster) -> None:
    helm = Helm(cluster)
    ours = {"meta.helm.sh/release-name": "grafana", "meta.helm.sh/release-namespace": "grafana"}
    for obj in MANIFEST[:5]:
        name = obj["metadata"]["name"]  # type: ignore[index]
        notes = {} if name == "somebody-else-s" else dict(ours)
        if name == "kept":
            notes["helm.sh/resource-policy"] = "keep"
        helm.kubernetes.create(
            {**obj, "metadata": {"name": name, "namespace": "grafana", "annotations": notes}}
        )
    record = Release("grafana", "grafana", 1, "failed", CHART, {}, START, START, "timed out")
    rendered = "---\n".join(yaml.safe_dump(obj) for obj in MANIFEST)
    helm.kubernetes.create(encode(replace(record, manifest=rendered), "createdAt"))

    (one,) = helm.find()
    assert [str(ref) for ref, _ in one.goes] == [
        "ConfigMap grafana/settings",
        "ServiceAccount grafana/grafana",
        "Secret grafana/sh.helm.release.v1.grafana.v1",
    ]
    assert set(map(str, one.stays)) == {"PersistentVolumeClaim grafana/grafana", "ConfigMap grafana/kept"}
    remedied(helm)

    left = cluster.objects("configmaps")
    assert {name for name in left if name.startswith("grafana/") and "kube-root" not in name} == {
        "grafana/somebody-else-s",
        "grafana/kept",
    }
    assert "grafana/grafana" in cluster.objects("persistentvolumeclaims")
    assert helm.find() == ()


def test_a_release_that_was_made_again_meanwhile_is_not_touched(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install(Mishap.KILLED)
    (one,) = helm.find()
    helm.releases.uninstall("grafana")
    helm.install()

    with pytest.raises(ConflictError):
        mend(helm.kubernetes, one, lambda text: None)
    assert helm.statuses() == ["deployed"]


def test_a_release_that_came_to_its_end_meanwhile_is_not_touched(cluster: Cluster) -> None:
    """Whoever began it was at work after all: the record is the same, and says another thing."""
    helm = Helm(cluster)
    helm.install(Mishap.KILLED)
    (one,) = helm.find()
    ref, _ = one.last.secret
    helm.kubernetes.patch(ref, {"metadata": {"labels": {"status": "deployed"}}})

    with pytest.raises(ConflictError, match="has moved on"):
        mend(helm.kubernetes, one, lambda text: None)
    assert helm.kubernetes.get(ref) is not None


def test_why_it_does_not_come_up_is_read_from_its_pods(cluster: Cluster) -> None:
    helm = Helm(cluster)
    helm.install(Mishap.TIMEOUT)
    helm.kubernetes.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "grafana-0", "namespace": "grafana"},
            "spec": {"containers": [{"name": "grafana", "image": "grafana/grafana:13"}]},
        }
    )

    # A cluster without nodes; its scheduler comes by in its own time.
    end = time.monotonic() + 10
    while not cluster.objects("pods")["grafana/grafana-0"]["status"].get("conditions"):
        assert time.monotonic() < end
        time.sleep(0.01)

    (one,) = helm.find()
    assert any("grafana-0 is not scheduled" in reason for reason in one.evidence.reasons)
    assert "FailedScheduling" in one.evidence.text()


@pytest.mark.parametrize("status", ["deployed", "superseded", "uninstalled", "unknown"])
def test_other_statuses_need_no_remedy(status: str) -> None:
    assert not {key for key in REMEDIES if key[0] == status}


def test_a_record_that_cannot_be_read_still_has_its_labels(cluster: Cluster) -> None:
    helm = Helm(cluster)
    secret = encode(
        Release("grafana", "grafana", 3, "pending-install", CHART, {}, START, START, ""), "createdAt"
    )
    helm.kubernetes.create({**secret, "data": {"release": "bm90IG9uZQ=="}})
    stray = {"name": "stray", "namespace": "grafana", "labels": {"owner": "helm"}}
    helm.kubernetes.create({"apiVersion": "v1", "kind": "Secret", "metadata": stray})

    found = records.read(helm.kubernetes)
    assert [(one.number, one.status, one.chart) for one in found["grafana", "grafana"]] == [
        (3, "pending-install", "")
    ]
    # When it began is not known, so somebody may still be at it.
    assert [one.at_work for one in helm.find()] == [True]


def test_a_moment_of_go_s_is_read(cluster: Cluster) -> None:
    helm = Helm(cluster)
    moment = "2026-01-01T12:00:00.123456789+09:00"

    class Go(datetime):
        def isoformat(self, *how: object) -> str:  # type: ignore[override]
            return moment

    stamp = Go(2026, 1, 1, 12, tzinfo=UTC)
    helm.kubernetes.create(
        encode(Release("grafana", "grafana", 1, "deployed", CHART, {}, stamp, stamp, ""), "createdAt")
    )

    (one,) = records.read(helm.kubernetes)["grafana", "grafana"]
    assert one.changed_at == datetime(2026, 1, 1, 3, 0, 0, 123456, UTC)
    assert (one.chart, one.chart_version, one.app_version) == ("grafana", "12.11.1", "13.2.0")
