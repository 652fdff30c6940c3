"""What the cluster says: its API, its nodes, its system, its storage, and Fluent Bit.

The autoscaler and the services, which come as Helm releases, are in `releases.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core import fluent_bit
from cali_infra.core.rollout import event_words, events, pod_reasons, reasons, replicas
from cali_infra.core.stages import Kind, closure
from cali_infra.core.storage_class import is_default
from cali_infra.verify.checks import Check, Family, Result, check, failed, few, passed, warned
from cali_infra.verify.context import Context

Object = Mapping[str, Any]

SYSTEM = "kube-system"
DRIVER = "ebs.csi.aws.com"
ZONE = "topology.kubernetes.io/zone"
# A round trip that takes longer than this, in seconds, makes every command a trial of patience.
_SLOW = 1.0
_ROUNDS = 3
# For so long, in seconds, a young pod may be on its way.
_YOUNG = 120.0
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


@check(
    "kubernetes.api",
    "The cluster's API answers, and knows the caller",
    family=Family.KUBERNETES,
    needs=("eks.cluster-active",),
    stage="eks",
    timeout=90.0,
    remedy="# is your address in allowed_cidrs of cali.yaml?\ncali up eks",
)
def api(context: Context) -> Result:
    """The API server can be reached with a trusted certificate, accepts the caller's token, and answers within a
    second. The time of a round trip is measured."""
    kubernetes = context.kubernetes()
    # The version is told to anybody: this is not. And it opens the connection, which is not measured.
    kubernetes.get(ObjectRef("v1", "Namespace", None, SYSTEM))
    times = []
    for _ in range(_ROUNDS):
        started = context.clock()
        version = kubernetes.version()
        times.append(context.clock() - started)
    measured = {"round trip": median(times)}
    said = f"{version} at {kubernetes.host}, {measured['round trip'] * 1000:.0f} ms"
    if measured["round trip"] > _SLOW:
        return warned(said, "kubectl get --raw '/readyz?verbose'", measured)
    return passed(said, measured)


def nodes(context: Context) -> list[dict[str, Any]]:
    """The cluster's nodes."""
    return context.fact("nodes", lambda: context.kubernetes().list("v1", "Node"))


def pods(context: Context) -> list[dict[str, Any]]:
    """The pods of all namespaces."""
    return context.fact("pods", lambda: context.kubernetes().list("v1", "Pod"))


@check(
    "kubernetes.nodes",
    "The nodes are Ready",
    family=Family.KUBERNETES,
    needs=("kubernetes.api",),
    stage="eks",
    remedy="kubectl get nodes",
)
def nodes_ready(context: Context) -> Result:
    """There are nodes, every one of them is Ready, and none is short of memory, disk or process ids."""
    found = nodes(context)
    if not found:
        return failed("the cluster has no node", "cali up eks")
    bad = {_name(node): why for node in found if (why := _ailment(node))}
    if bad:
        said = "; ".join(f"{name}: {why}" for name, why in bad.items())
        return failed(said, f"kubectl describe node {next(iter(bad))}")
    cordoned = [_name(node) for node in found if (node.get("spec") or {}).get("unschedulable")]
    if cordoned:
        return warned(f"cordoned: {', '.join(cordoned)}", f"kubectl uncordon {cordoned[0]}")
    return passed(f"{len(found)} Ready")


def _ailment(node: Object) -> str:
    conditions = {item["type"]: item for item in (node.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None:
        return "not Ready: its kubelet has not reported"
    if ready["status"] != "True":
        said = ready.get("message") or ready.get("reason") or ""
        return f"not Ready: {said}" if said else "not Ready"
    pressed = [name for name in _PRESSURES if (conditions.get(name) or {}).get("status") == "True"]
    return ", ".join(pressed)


@check(
    "kubernetes.zones",
    "The nodes are spread over zones",
    family=Family.KUBERNETES,
    needs=("kubernetes.nodes",),
    stage="eks",
    remedy=f"kubectl get nodes -L {ZONE}",
)
def zones(context: Context) -> Result:
    """The nodes stand in more than one availability zone, so that the outage of one does not take them all."""
    counts: dict[str, int] = {}
    for node in nodes(context):
        zone = (node["metadata"].get("labels") or {}).get(ZONE, "")
        counts[zone] = counts.get(zone, 0) + 1
    shown = ", ".join(f"{count} in {zone or 'no zone'}" for zone, count in sorted(counts.items()))
    if "" in counts:
        return failed(f"nodes without the label {ZONE}: {shown}", f"kubectl get nodes -L {ZONE}")
    total = sum(counts.values())
    if total == 1:
        return warned(f"one node only, {shown}", "# set eks.min_nodes to 2 or more in cali.yaml\ncali up eks")
    if len(counts) == 1:
        return failed(
            f"all {shown}: an outage of that zone takes the cluster", f"kubectl get nodes -L {ZONE}"
        )
    return passed(shown)


@check(
    "kubernetes.system-pods",
    "The pods of kube-system run",
    family=Family.KUBERNETES,
    needs=("kubernetes.api",),
    stage="eks",
    remedy=f"kubectl -n {SYSTEM} get pods",
)
def system_pods(context: Context) -> Result:
    """No pod of kube-system crashes, waits for a place or fails to start; the reason is given for one that does."""
    found = [pod for pod in pods(context) if pod["metadata"]["namespace"] == SYSTEM]
    bad = {_name(pod): why for pod in found if (why := _trouble(context, pod))}
    if bad:
        name, more = next(iter(bad)), len(bad) - 2
        said = "; ".join(list(bad.values())[:2]) + (f"; and {more} more" if more > 0 else "")
        return failed(said, f"kubectl -n {SYSTEM} describe pod {name}")
    return passed(f"{len(found)} pods run")


def _trouble(context: Context, pod: Object) -> str:
    """Why a pod does not run; empty for one that does, or has ended well, or is on its way."""
    status, name = pod.get("status") or {}, _name(pod)
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Succeeded":
        return ""
    if _is(status, "Ready"):
        return ""
    why = next(pod_reasons(context.kubernetes(), dict(pod)), "")
    if why:
        return why
    if status.get("phase") == "Failed":
        return f"{name} failed: {status.get('reason') or status.get('message') or 'no reason is given'}"
    if _age(context, pod) < _YOUNG:
        return ""
    return f"{name} is {status.get('phase', 'Unknown')} and not ready"


# -- storage --------------------------------------------------------------------------------------------------


@check(
    "storage.default-class",
    "Exactly one StorageClass is the default, and it is the EBS CSI driver's",
    family=Family.KUBERNETES,
    needs=("kubernetes.api",),
    stage="storage",
    remedy="cali up storage",
)
def default_class(context: Context) -> Result:
    """A claim that names no class gets an encrypted EBS volume from the CSI driver: there is one default class, and
    its provisioner is ebs.csi.aws.com."""
    classes = context.kubernetes().list("storage.k8s.io/v1", "StorageClass")
    defaults = [item for item in classes if is_default(item)]
    if not defaults:
        names = ", ".join(_name(item) for item in classes) or "there is none at all"
        return failed(f"no StorageClass is the default ({names})")
    if len(defaults) > 1:
        return failed(f"more than one default: {', '.join(sorted(_name(item) for item in defaults))}")
    (chosen,) = defaults
    if chosen["provisioner"] != DRIVER:
        return failed(f"the default class {_name(chosen)} is {chosen['provisioner']}'s, not {DRIVER}'s")
    if (chosen.get("parameters") or {}).get("encrypted") != "true":
        return failed(f"the default class {_name(chosen)} makes volumes without encryption")
    return passed(f"{_name(chosen)} on {DRIVER}, encrypted")


@check(
    "storage.claims",
    "No volume claim is pending",
    family=Family.KUBERNETES,
    needs=("kubernetes.api",),
    stage="storage",
    remedy="kubectl get pvc --all-namespaces",
)
def claims_bound(context: Context) -> Result:
    """Every claim in every namespace has its volume; for one that has not, the cluster's own reason is given."""
    claims = context.kubernetes().list("v1", "PersistentVolumeClaim")
    open_ = [claim for claim in claims if (claim.get("status") or {}).get("phase") != "Bound"]
    used = {
        (pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
        for pod in (pods(context) if open_ else ())
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }
    waiting = [claim for claim in open_ if (claim["metadata"]["namespace"], _name(claim)) in used]
    if waiting:
        claim = waiting[0]
        namespace, name = claim["metadata"]["namespace"], _name(claim)
        why = next(_events(context, claim), "the cluster gives no reason")
        more = f"; and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        phase = (claim.get("status") or {}).get("phase", "Pending")
        return failed(
            f"{namespace}/{name} is {phase}: {why}{more}", f"kubectl -n {namespace} describe pvc {name}"
        )
    if open_:
        names = ", ".join(f"{claim['metadata']['namespace']}/{_name(claim)}" for claim in open_)
        return warned(f"no pod uses {names}, so that there is no volume yet")
    return passed(f"{len(claims)} bound" if claims else "there is no claim")


def _events(context: Context, obj: Object) -> Iterator[str]:
    """What the events say of an object, the latest first."""
    for event in events(context.kubernetes(), obj):
        yield event_words(event)


# -- logging --------------------------------------------------------------------------------------------------


@check(
    "logging.fluent-bit",
    "Fluent Bit is ready on every node",
    family=Family.KUBERNETES,
    needs=("kubernetes.nodes",),
    stage="logging",
    remedy="cali up logging",
)
def fluent_bit_ready(context: Context) -> Result:
    """The DaemonSet has a ready pod of its newest revision on every node: no node's logs are missing."""
    kubernetes = context.kubernetes()
    name = f"{fluent_bit.NAMESPACE}/{fluent_bit.NAME}"
    daemon = kubernetes.get(ObjectRef("apps/v1", "DaemonSet", fluent_bit.NAMESPACE, fluent_bit.NAME))
    if daemon is None:
        return failed(f"there is no DaemonSet {name}", "cali up --through logging")
    ready, wanted = replicas(daemon)
    if ready < wanted:
        why = next(reasons(kubernetes, daemon), "its pods give no reason")
        return failed(
            f"{ready} of {wanted} pods ready: {why}",
            f"kubectl -n {fluent_bit.NAMESPACE} describe daemonset {fluent_bit.NAME}",
        )
    total = len(nodes(context))
    if wanted < total:
        return failed(
            f"it runs on {wanted} of {total} nodes: the others are not selected, or have a taint",
            f"kubectl -n {fluent_bit.NAMESPACE} get pods -o wide",
        )
    return passed(f"{ready} of {wanted} pods ready, on {total} nodes")


@check(
    "logging.configuration",
    "Fluent Bit runs the configuration of the repository",
    family=Family.KUBERNETES,
    needs=("kubernetes.api", "search.domain-active"),
    stage="logging",
    timeout=60.0,
    remedy="cali up logging",
)
def fluent_bit_configured(context: Context) -> Result:
    """What k8s/fluent-bit renders with this cali.yaml and these passwords is what is in the cluster, object by
    object; the forced @timestamp hangs on it."""
    different = _planned(context, "logging")
    if different:
        return failed(f"the cluster has another configuration: {different}")
    return passed("as rendered")


@check(
    "services.secrets",
    "The services' Secrets are those of secrets.yaml",
    family=Family.KUBERNETES,
    needs=("kubernetes.api", "search.domain-active"),
    stage="service-secrets",
    timeout=60.0,
    remedy="cali up service-secrets",
)
def secrets_current(context: Context) -> Result:
    """The namespaces of the services that are on, and the Secrets that their charts take by name, hold what
    secrets.yaml says; no value is shown."""
    different = _planned(context, "service-secrets")
    if different:
        return failed(f"not as in secrets.yaml: {different}")
    return passed("as in secrets.yaml")


def _planned(context: Context, stage: str) -> str:
    """What applying a stage of manifests would change, in words; empty for nothing."""
    for below in closure(stage):
        if below.kind is Kind.TERRAFORM:
            context.stack(below.name)
    plan = context.subject.plan(stage, context.facts.cancel)
    return few([f"{change.address}: {change.action.value}" for change in plan.changes])


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _is(status: Object, condition: str) -> bool:
    return any(
        item["type"] == condition and item["status"] == "True" for item in status.get("conditions") or ()
    )


def _age(context: Context, obj: Object) -> float:
    created = obj["metadata"].get("creationTimestamp")
    if not created:
        return 0.0
    return (context.now().astimezone(UTC) - datetime.fromisoformat(created)).total_seconds()


CHECKS: tuple[Check, ...] = (
    api,
    nodes_ready,
    zones,
    system_pods,
    default_class,
    claims_bound,
    fluent_bit_ready,
    fluent_bit_configured,
    secrets_current,
)
