"""The autoscaler and the services, which are Helm releases: deployed, their workloads ready, and the autoscaler at
work. They are of the family Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.releases import DEPLOYED, Revision, newest
from cali_infra.core.rollout import reasons, replicas
from cali_infra.core.service_secrets import SERVICES
from cali_infra.verify import aws
from cali_infra.verify.checks import Check, Family, Result, check, failed, passed, skipped, warned
from cali_infra.verify.context import Context

AUTOSCALER = ("kube-system", "cluster-autoscaler")
_STATUS = ObjectRef("v1", "ConfigMap", AUTOSCALER[0], "cluster-autoscaler-status")
# It writes its status every ten seconds.
_FRESH = timedelta(minutes=3)
_TAG_MINOR = re.compile(r":v?1\.(\d+)\.")
LOGS = f"kubectl -n {AUTOSCALER[0]} logs -l app.kubernetes.io/instance={AUTOSCALER[1]} --tail=50"


def found(context: Context) -> dict[tuple[str, str], Revision]:
    """The newest revision of every release, by namespace and name."""

    def ask() -> dict[tuple[str, str], Revision]:
        return newest(context.kubernetes().list("v1", "Secret", labels={"owner": "helm"}))

    return context.fact("releases", ask)


def _deployed(context: Context, namespace: str, name: str, stage: str) -> Result:
    release = found(context).get((namespace, name))
    if release is None:
        return failed(f"there is no release {name} in {namespace}", f"cali up --through {stage}")
    if release.status != DEPLOYED:
        said = f": {release.description}" if release.description else ""
        return failed(
            f"revision {release.number} of {name} is {release.status}{said}",
            f"helm -n {namespace} history {name}\ncali up {stage}",
        )
    return passed(f"{release.chart or '?'} {release.chart_version or '?'}, revision {release.number}")


def _workloads(context: Context, namespace: str, name: str) -> Result:
    release = found(context)[namespace, name]
    wanted = release.workloads()
    if not wanted:
        return skipped(f"the record of {name} names no workload: nothing was installed")
    kubernetes, ready = context.kubernetes(), 0
    for ref in wanted:
        obj = kubernetes.get(ref)
        if obj is None:
            return failed(f"{ref} is gone", "cali up services")
        have, want = replicas(obj)
        if have < want:
            why = next(reasons(kubernetes, obj), "its pods give no reason")
            return failed(
                f"{ref} has {have} of {want} replicas ready: {why}",
                f"kubectl -n {ref.namespace} describe {ref.kind.lower()} {ref.name}",
            )
        ready += have
    many = "s" if len(wanted) > 1 else ""
    return passed(f"{len(wanted)} workload{many}, {ready} replica{'s' if ready > 1 else ''} ready")


# -- the autoscaler -------------------------------------------------------------------------------------------


@check(
    "autoscaler.release",
    "The autoscaler's release is deployed",
    family=Family.KUBERNETES,
    needs=("kubernetes.api",),
    stage="autoscaler",
    remedy="cali up autoscaler",
)
def autoscaler_release(context: Context) -> Result:
    """Helm's newest record of cluster-autoscaler is `deployed`: neither failed nor in the middle of something."""
    return _deployed(context, *AUTOSCALER, "autoscaler")


@check(
    "autoscaler.version",
    "The autoscaler is made for the cluster's version",
    family=Family.KUBERNETES,
    needs=("autoscaler.release",),
    stage="autoscaler",
    remedy="# set autoscaler.image_tag in cali.yaml, or leave it out\ncali up autoscaler",
)
def autoscaler_version(context: Context) -> Result:
    """The image that runs has the minor version of the control plane: the autoscaler simulates the scheduler of
    that version, and another one decides wrongly."""
    kubernetes = context.kubernetes()
    labels = {"app.kubernetes.io/instance": AUTOSCALER[1]}
    deployments = kubernetes.list("apps/v1", "Deployment", AUTOSCALER[0], labels)
    if not deployments:
        return failed(
            f"the release is deployed, and its Deployment is gone from {AUTOSCALER[0]}", "cali up autoscaler"
        )
    image = str(deployments[0]["spec"]["template"]["spec"]["containers"][0]["image"])
    tag, server = _TAG_MINOR.search(image), kubernetes.version()
    minor = re.match(r"v?1\.(\d+)", server)
    if tag is None or minor is None:
        return warned(f"cannot compare {image} with {server}")
    if tag[1] != minor[1]:
        return failed(f"{image} in a cluster of {server}")
    return passed(f"{image} in a cluster of {server}")


@check(
    "autoscaler.status",
    "The autoscaler is at work and Healthy",
    family=Family.KUBERNETES,
    needs=("autoscaler.release",),
    stage="autoscaler",
    remedy=LOGS,
)
def autoscaler_status(context: Context) -> Result:
    """The autoscaler's own status is minutes old at most, and Healthy for the cluster and each node group. A Ready
    pod proves less: with a chart that is too old for it, the autoscaler is Ready and never scales."""
    status = current_status(context)
    if isinstance(status, Result):
        return status
    written = _moment(str(status.get("time", "")))
    if written is None:
        return failed(f"its status has no time that can be read: {str(status.get('time'))[:60]}")
    age = context.now().astimezone(UTC) - written
    if age > _FRESH:
        return failed(f"its last status is {_ago(age)} old: it hangs, or is not there")
    running = status.get("autoscalerStatus", "")
    if running != "Running":
        return failed(f"it is {running or 'in an unknown state'} and not Running")
    health = _health(status.get("clusterWide"))
    if health != "Healthy":
        return failed(f"the cluster is {health or 'of unknown health'} to it")
    groups = status.get("nodeGroups") or ()
    bad = [group["name"] for group in groups if _health(group) != "Healthy"]
    if bad:
        return failed(f"not Healthy: {', '.join(bad)}")
    waiting = [group for group in groups if (group.get("scaleUp") or {}).get("status") == "Backoff"]
    if waiting:
        why = ((waiting[0].get("scaleUp") or {}).get("backoffInfo") or {}).get("errorMessage", "")
        return warned(f"{waiting[0]['name']} could not be made larger, and it waits: {why}".rstrip(": "))
    return passed(f"Healthy, as of {max(age.total_seconds(), 0):.0f} s ago")


@check(
    "autoscaler.node-groups",
    "The autoscaler watches the node groups that AWS has",
    family=Family.KUBERNETES,
    needs=("autoscaler.status", "eks.node-groups"),
    stage="autoscaler",
    remedy=LOGS,
)
def autoscaler_node_groups(context: Context) -> Result:
    """The Auto Scaling groups in the autoscaler's status are those of the cluster's node groups, no more and no
    fewer: it finds them by their tags."""
    status = current_status(context)
    if isinstance(status, Result):
        return status
    watched = {str(group.get("name")) for group in status.get("nodeGroups") or ()}
    there = {name for group in aws.node_groups(context) for name in group.scaling_groups}
    if there - watched:
        return failed(
            f"it does not see {', '.join(sorted(there - watched))}",
            aws.command(
                context,
                "autoscaling describe-tags --filters Name=key,Values=k8s.io/cluster-autoscaler/enabled",
            ),
        )
    if watched - there:
        return failed(
            f"it watches what is no node group of this cluster: {', '.join(sorted(watched - there))}"
        )
    return passed(", ".join(sorted(watched)))


def current_status(context: Context) -> Mapping[str, Any] | Result:
    """The autoscaler's status as it stands in its ConfigMap, or why there is none."""

    def ask() -> Mapping[str, Any] | Result:
        import yaml

        found = context.kubernetes().get(_STATUS)
        if found is None:
            return failed(f"it has written no status ({_STATUS})")
        try:
            status = yaml.safe_load((found.get("data") or {}).get("status", ""))
        except yaml.YAMLError:
            status = None
        if not isinstance(status, Mapping) or "autoscalerStatus" not in status:
            # Before 1.30 it was prose.
            return failed("its status is not the YAML that 1.30 and newer write", "cali up autoscaler")
        return status

    return context.fact("the autoscaler's status", ask)


def _health(part: Any) -> str:
    return str(((part or {}).get("health") or {}).get("status") or "")


def _moment(text: str) -> datetime | None:
    """A time as Go prints it: `2026-03-01 10:00:00.000000000 +0000 UTC`."""
    match = re.match(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,6})?", text)
    if match is None:
        return None
    return datetime.fromisoformat(
        f"{match[1]}T{match[2]}{(match[3] or '').ljust(7, '0') if match[3] else ''}+00:00"
    )


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"


# -- the services ---------------------------------------------------------------------------------------------


def _service(name: str) -> tuple[Check, Check]:
    title = name.capitalize()

    def deployed(context: Context) -> Result:
        if not getattr(context.subject.settings.services, name):
            return skipped(f"{name} is off in cali.yaml")
        return _deployed(context, name, name, "services")

    def workloads(context: Context) -> Result:
        return _workloads(context, name, name)

    release = Check(
        id=f"{name}.release",
        title=f"{title}'s release is deployed",
        family=Family.KUBERNETES,
        ask=deployed,
        proves=f"Helm's newest record of {name} is `deployed`: neither failed nor in the middle of something. "
        "Skipped where the service is switched off.",
        remedy="cali up services",
        needs=("kubernetes.api",),
        stage="services",
    )
    ready = Check(
        id=f"{name}.workloads",
        title=f"{title}'s workloads are ready",
        family=Family.KUBERNETES,
        ask=workloads,
        proves="Every Deployment, StatefulSet and DaemonSet of the release has all its replicas ready at their "
        "newest revision; the reason is given for one that has not.",
        remedy=f"kubectl -n {name} get pods",
        needs=(release.id,),
        stage="services",
    )
    return release, ready


CHECKS: tuple[Check, ...] = (
    autoscaler_release,
    autoscaler_version,
    autoscaler_status,
    autoscaler_node_groups,
    *(check for service in SERVICES for check in _service(service)),
)
