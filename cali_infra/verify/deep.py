"""What only an attempt proves, and therefore costs something: a volume, and a node more.

Each check works in a namespace of its own, and leaves nothing behind, however it ends. What it makes there is
`jobs.py`'s; the family is run with `--deep`, or by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.rollout import event_words, events, pod_reasons
from cali_infra.errors import JobError, KubernetesError
from cali_infra.verify import aws, jobs, releases
from cali_infra.verify.checks import Check, Family, Result, check, failed, few, passed, warned

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object
    from cali_infra.verify.context import Context

# How long, in seconds, is waited: for a volume, for the pod on it, for the autoscaler's first word, for it to think
# better of a refusal, and for a node.
_BINDING, _WRITING, _REACTION, _SECOND_THOUGHT, _NODE = 180.0, 240, 180.0, 30.0, 600.0
# Events come a moment later than what they tell of.
_LATE_EVENTS = 5.0
# Where the cluster names no time.
_LONG_AGO = "1970-01-01T00:00:00Z"
_COMPONENT = "app.kubernetes.io/component"
_DRIVER_LOGS = "kubectl -n kube-system logs deployment/ebs-csi-controller --all-containers --tail=50"
# Read back in the same shell, so that one exit code says it all.
_SCRIPT = """\
set -e
echo "$TEXT" > /data/text
sync /data/text
read -r FOUND < /data/text
if [ "$FOUND" != "$TEXT" ]; then echo "wrote $TEXT and read $FOUND" >&2; exit 1; fi
"""


# -- what is left ---------------------------------------------------------------------------------------------


@check(
    "deep.leftovers",
    "Nothing is left of an earlier run",
    family=Family.DEEP,
    needs=("kubernetes.api",),
    timeout=jobs.GOING + 60.0,
    option="deep",
    remedy="kubectl get namespaces -l app.kubernetes.io/name=cali-verify",
)
def leftovers(context: Context) -> Result:
    """No namespace and no volume of an earlier run is in the cluster. A run that was killed cannot put down what it
    has made: namespaces of that kind that are older than an hour are deleted here, and said."""
    kubernetes, now = context.kubernetes(), context.now().astimezone(UTC)
    old = jobs.sweep(kubernetes, now)
    for name in old:
        kubernetes.wait_until_gone(ObjectRef("v1", "Namespace", None, name), jobs.GOING)
    for each in _volumes(kubernetes):
        # It goes with its claim, a moment later.
        if _namespace_of(each) in old and each["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            _wait_for_its_end(kubernetes, each)
    young = jobs.namespaces(kubernetes, now)
    volumes = [each for each in _volumes(kubernetes) if _namespace_of(each) not in young]
    told = [f"{name}, {age.total_seconds() / 3600:.0f} hours old" for name, age in sorted(old.items())]
    deleted = f"an earlier run was killed; deleted what it left: {few(told)}" if told else ""
    if volumes:
        left = f"left by an earlier run: {few([_described(volume) for volume in volumes])}"
        return warned("; ".join(filter(None, (deleted, left))), _take_away(context, volumes[0]))
    if deleted:
        return warned(deleted)
    return passed("nothing is left")


# -- a volume -------------------------------------------------------------------------------------------------


@check(
    "deep.volume",
    "A volume is made, written, read and taken away",
    family=Family.DEEP,
    needs=("storage.default-class", "deep.leftovers"),
    stage="storage",
    timeout=_BINDING + _WRITING + 4 * jobs.GOING,
    grace=3 * jobs.GOING,
    option="deep",
    remedy=_DRIVER_LOGS,
)
def volume(context: Context) -> Result:
    """A claim of 1 GiB that names no class gets a volume, a pod without rights writes a random text to it and reads
    it back, and with the claim the volume goes, too: one that stays is billed for ever. Each leg is measured, the
    second with the volume's way to the node and the image's."""
    kubernetes, clock = context.kubernetes(), context.clock
    namespace = jobs.scratch(context, "volume")
    claim = ObjectRef("v1", "PersistentVolumeClaim", namespace, "volume")
    context.defer(
        f"the volume of {namespace}",
        partial(_put_down, context, claim),
        "kubectl get persistentvolumes",
    )
    began = clock()
    kubernetes.create(_claim(claim))
    job = jobs.job(
        "volume",
        namespace,
        image=context.subject.settings.verify.image,
        command=["sh", "-c", _SCRIPT],
        env={"TEXT": f"cali-{context.suffix()}"},
        volumes=[jobs.Mount("/data", {"persistentVolumeClaim": {"claimName": claim.name}})],
        seconds=int(_BINDING) + _WRITING,
    )
    made = jobs.start(context, job)
    pending = _wait_for_volume(context, claim, made)
    if pending:
        return failed(f"no volume within {_BINDING:.0f} seconds: {pending}", _DRIVER_LOGS)
    measured = {"bound": clock() - began}
    began = clock()
    try:
        ended = jobs.wait(context, made, _WRITING)
    except JobError as error:
        return failed(f"the claim is bound, and {error.message}", _DRIVER_LOGS, measured)
    measured["written and read"] = clock() - began
    if ended.exit_code:
        why = ended.last_words or f"exit code {ended.exit_code}"
        return failed(f"the volume cannot be written and read: {why}", _DRIVER_LOGS, measured)
    began = clock()
    context.put_down()
    measured["deleted"] = clock() - began
    told = ", ".join(f"{name} in {seconds:.1f} s" for name, seconds in measured.items())
    return passed(f"1 GiB: {told}", measured)


def _claim(ref: ObjectRef) -> Object:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": dict(jobs.LABELS)},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def _wait_for_volume(context: Context, claim: ObjectRef, job: ObjectRef) -> str:
    """Return when a claim is bound; why it is not when that takes too long."""
    kubernetes, began, pace = context.kubernetes(), context.clock(), jobs.Pace(context)
    while True:
        found = kubernetes.get(claim)
        if found is not None and (found.get("status") or {}).get("phase") == "Bound":
            return ""
        if context.clock() - began > _BINDING:
            return next(_why_pending(kubernetes, found, job), "the cluster gives no reason")
        pace.rest()


def _why_pending(kubernetes: Kubernetes, claim: Object | None, job: ObjectRef) -> Iterator[str]:
    if claim is None:
        yield "the claim is gone"
        return
    for event in events(kubernetes, claim):
        # It waits for its pod, as it should.
        if event.get("reason") != "WaitForFirstConsumer":
            yield event_words(event)
    for pod in jobs.pods_of(kubernetes, job):
        yield from pod_reasons(kubernetes, pod)


def _put_down(context: Context, claim: ObjectRef) -> None:
    """Delete a claim, and wait until its volume is gone, too. Raises KubernetesError that names what is left."""
    kubernetes = context.kubernetes()
    kubernetes.delete(claim, wait=jobs.GOING)
    for volume in [each for each in _volumes(kubernetes) if _namespace_of(each) == claim.namespace]:
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
            raise KubernetesError(
                f"{_described(volume)}: its class does not delete it", remedy=_take_away(context, volume)
            )
        try:
            _wait_for_its_end(kubernetes, volume)
        except KubernetesError as error:
            raise KubernetesError(
                f"{_described(volume)}: {error.message}", remedy=_take_away(context, volume)
            ) from error


def _wait_for_its_end(kubernetes: Kubernetes, volume: Mapping[str, Any]) -> None:
    ref = ObjectRef("v1", "PersistentVolume", None, volume["metadata"]["name"])
    kubernetes.wait_until_gone(ref, jobs.GOING)


def _volumes(kubernetes: Kubernetes) -> list[Object]:
    """The volumes whose claims were made by these checks."""
    return [
        item
        for item in kubernetes.list("v1", "PersistentVolume")
        if _namespace_of(item).startswith(jobs.PREFIX)
    ]


def _namespace_of(volume: Mapping[str, Any]) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("namespace", ""))


def _handle(volume: Mapping[str, Any]) -> str:
    return str((volume["spec"].get("csi") or {}).get("volumeHandle", ""))


def _described(volume: Mapping[str, Any]) -> str:
    return f"EBS volume {_handle(volume)} ({volume['metadata']['name']})"


def _take_away(context: Context, volume: Mapping[str, Any]) -> str:
    ours = aws.command(context, f"ec2 delete-volume --volume-id {_handle(volume)}")
    return f"kubectl delete persistentvolume {volume['metadata']['name']}\n{ours}"


# -- a node more ----------------------------------------------------------------------------------------------


@check(
    "deep.scale-up",
    "The autoscaler adds a node for a pod without a place",
    family=Family.DEEP,
    needs=("kubernetes.nodes", "autoscaler.status", "deep.leftovers"),
    stage="autoscaler",
    timeout=_REACTION + _NODE + 2 * jobs.GOING,
    grace=2 * jobs.GOING,
    option="deep",
    question="deep.scale-up has the autoscaler add a node of the node group's instance type, which is billed until "
    "it takes it away again, after about ten minutes.",
    remedy=releases.LOGS,
)
def scale_up(context: Context) -> Result:
    """Of pods that must not share a node there is one more than there are nodes: the autoscaler sees the one
    without a place, makes a node group larger, and the pod runs on the node that comes. The reaction and the whole
    way are measured. Nothing is done where every node group has its maximum already."""
    full = _at_maximum(context)
    if full:
        return warned(f"no node group may grow: {few(full)}", "# set eks.max_nodes in cali.yaml\ncali up eks")
    kubernetes, clock = context.kubernetes(), context.clock
    count = sum(_takes_pods(node) for node in kubernetes.list("v1", "Node")) + 1
    namespace = jobs.scratch(context, "scale-up")
    began, since = clock(), _born(kubernetes, namespace)
    made = jobs.start(context, _pods(context, namespace, count))
    measured: dict[str, float] = {}
    reaction, refusal, refused, pace = "", "", began, jobs.Pace(context)
    while True:
        pods, said = jobs.pods_of(kubernetes, made), kubernetes.list("v1", "Event", namespace)
        now = clock()
        if not reaction and (words := _said(said, "TriggeredScaleUp")):
            reaction, measured["reaction"] = words, now - began
        here = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        if len(here) == count and (reaction or now - began > _LATE_EVENTS):
            break
        if not reaction:
            words = _said(said, "NotTriggerScaleUp")
            if _parts(words) != _parts(refusal):
                refusal, refused = words, now
            if (refusal and now - refused > _SECOND_THOUGHT) or now - began > _REACTION:
                return _no_node(kubernetes, pods, refusal, since)
        elif now - began - measured["reaction"] > _NODE:
            why = next(_why_not_running(kubernetes, pods), "the cluster gives no reason")
            return failed(
                f"{reaction}, and the pod does not run within {_NODE / 60:.0f} minutes: {why}",
                _activities(context, reaction),
                measured,
            )
        pace.rest()
    if not reaction:
        return warned("another node came by itself meanwhile, so that nothing was asked of the autoscaler")
    measured["node"] = clock() - began
    return passed(
        f"{reaction}; the pod runs after {measured['node']:.0f} s. The autoscaler takes the node away by itself "
        "after about ten minutes",
        measured,
    )


def _at_maximum(context: Context) -> list[str]:
    """The node groups and their sizes, when none of them may grow; empty otherwise."""
    status = releases.current_status(context)
    groups = () if isinstance(status, Result) else status.get("nodeGroups") or ()
    sizes = []
    for group in groups:
        health = group.get("health") or {}
        target, most = health.get("cloudProviderTarget"), health.get("maxSize")
        if target is None or most is None or int(target) < int(most):
            return []
        sizes.append(f"{group.get('name')} has {target} of {most} nodes")
    return sizes


def _takes_pods(node: Mapping[str, Any]) -> bool:
    """Whether a pod without tolerations may come to a node."""
    spec = node.get("spec") or {}
    closed = any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in spec.get("taints") or ())
    return not closed and not spec.get("unschedulable")


def _born(kubernetes: Kubernetes, namespace: str) -> datetime:
    """When a namespace was made, by the cluster's own clock, as the times of events are."""
    found = kubernetes.get(ObjectRef("v1", "Namespace", None, namespace))
    return jobs.moment((found or {}).get("metadata", {}).get("creationTimestamp") or _LONG_AGO)


def _parts(words: str) -> frozenset[str]:
    """The reasons in a refusal: the autoscaler tells them in whatever order."""
    return frozenset(words.partition(": ")[2].split(", "))


def _pods(context: Context, namespace: str, count: int) -> Object:
    """A Job of so many pods that wait, and of which no two share a node; it ends by itself, should cali not."""
    labels, seconds = {_COMPONENT: "scale-up"}, int(_REACTION + _NODE) + 60
    job = jobs.job(
        "scale-up",
        namespace,
        image=context.subject.settings.verify.image,
        command=["sleep", str(seconds)],
        seconds=seconds,
        labels=labels,
    )
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    spec = job["spec"]
    spec |= {"parallelism": count, "completions": count}
    pod = spec["template"]["spec"]
    pod["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return job


def _said(found: Sequence[Mapping[str, Any]], reason: str) -> str:
    """What the latest event with this reason says."""
    told = [event for event in found if event.get("reason") == reason]
    latest = max(told, key=lambda event: event.get("lastTimestamp") or "", default=None)
    return str(latest.get("message", "")) if latest else ""


def _no_node(kubernetes: Kubernetes, pods: Sequence[Object], refusal: str, since: datetime) -> Result:
    """Why the autoscaler adds no node: what it tried, what it says to the pods, or why those do not run.

    A group that it could not make larger is left alone for a while, and the pods hear of that only ("1 in backoff
    after failed scale-up"). Source: the autoscaler's `eventing_scale_up_processor.go`.
    """
    tried = [
        str(event.get("message", ""))
        for event in kubernetes.list("v1", "Event", releases.AUTOSCALER[0])
        if event.get("reason") == "FailedToScaleUpGroup"
        and jobs.moment(event.get("lastTimestamp") or event.get("eventTime") or _LONG_AGO) >= since
    ]
    if tried:
        return failed(f"the autoscaler cannot add a node: {tried[-1]}", "cali verify autoscaler")
    if refusal:
        return failed(f"the autoscaler adds no node: {refusal}", releases.LOGS)
    why = next(_why_not_running(kubernetes, pods), "no pod was made")
    return failed(f"no word of the autoscaler within {_REACTION / 60:.0f} minutes: {why}", releases.LOGS)


def _why_not_running(kubernetes: Kubernetes, pods: Sequence[Object]) -> Iterator[str]:
    for pod in pods:
        yield from pod_reasons(kubernetes, pod)


def _activities(context: Context, reaction: str) -> str:
    """How to ask AWS what became of the node that was ordered."""
    group = re.search(r"\{(\S+) ", reaction)
    name = f" --auto-scaling-group-name {group[1]}" if group else ""
    return aws.command(context, f"autoscaling describe-scaling-activities{name} --max-items 5")


CHECKS: tuple[Check, ...] = (leftovers, volume, scale_up)
