"""What must be right before a run that changes something, so that it stops at once and not after 20 minutes."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from cali_infra.core import git_sync, service_pods, volumes
from cali_infra.core.stages import Kind, Stage
from cali_infra.errors import AwsError, CaliError, PreconditionError, SettingsError, SettingsProblem

if TYPE_CHECKING:
    from cali_infra.adapters.aws import InstanceType, NodeGroupDescription
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.core.platform import Platform
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

# Stages that speak to the cluster or the domain from this machine.
_REACHED_FROM_HERE = frozenset({"autoscaler", "storage", "index", "logging", "service-secrets", "services"})
# Stages whose work is for nothing where GitSync cannot read the DAGs.
_NEED_GIT = frozenset({"service-secrets", "services"})
# Stages after which pods of the services would wait for room: the nodes, and the pods themselves.
_NEED_ROOM = frozenset({"eks", "services"})
# A node group that is made anew begins with `eks.desired_nodes`.
_MADE_ANEW = frozenset({"CREATE_FAILED", "DELETING", "DELETE_FAILED"})


def check_up(platform: Platform, stages: Sequence[Stage]) -> tuple[str, ...]:
    """What `up` needs beyond an opened platform: kubectl for manifests, an address that is let in, nodes that
    hold the services, volumes that can be what is asked for, and a repository with DAGs that GitSync can read.

    Returns what a person should know before it starts. Raises PreconditionError or SettingsError; nothing is
    touched then.
    """
    notes: list[str] = []
    if any(stage.kind is Kind.MANIFESTS for stage in stages):
        check_kubectl(platform.target.environ.get("PATH"))
    if not platform.target.rehearsal and any(stage.name in _REACHED_FROM_HERE for stage in stages):
        check_address(platform.settings, platform.aws.public_address)
    if any(stage.name in _NEED_ROOM for stage in stages):
        notes += check_room(platform.settings, platform.inputs.pods(), platform.aws.instance_types)
    if any(stage.name == "eks" for stage in stages):
        check_nodes(platform.settings, platform.aws.nodegroup)
    if any(stage.name == "services" for stage in stages):
        bundled = platform.secrets.airflow.database_url is None
        check_volumes(platform.settings, platform.cluster_at_hand, bundled_database=bundled)
        notes += without_git_sync(platform.settings, platform.secrets)
    if any(stage.name in _NEED_GIT for stage in stages):
        target = platform.target
        notes += git_sync.check(
            platform.settings, platform.secrets, target.environ, rehearsal=target.rehearsal
        )
    return tuple(notes)


def foresee(platform: Platform, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The same for a plan, which nothing of it stops: what a person should know, and what would stop `up`."""
    try:
        return check_up(platform, stages)
    except (PreconditionError, SettingsError) as error:
        return (f"`cali up` would stop here: {error.message}\n{error.remedy}".rstrip(),)


def check_kubectl(path: str | None) -> None:
    """Raises PreconditionError when there is no kubectl on `path`: the manifests are rendered by it."""
    if shutil.which("kubectl", path=path) is None:
        raise PreconditionError(
            "kubectl is not installed: cali renders the manifests with `kubectl kustomize`",
            remedy="install kubectl (https://kubernetes.io/docs/tasks/tools/), then run the command again",
        )


def check_address(settings: Settings, public_address: Callable[[], str]) -> None:
    """Hold the caller's public address against `allowed_cidrs`, which limits the cluster and the domain.

    Raises SettingsError when it is not covered: cali could not reach what it is about to make.
    """
    networks = [ipaddress.ip_network(str(cidr)) for cidr in settings.allowed_cidrs]
    try:
        address = ipaddress.ip_address(public_address())
    except AwsError as error:
        raise PreconditionError(
            f"your public address cannot be found out: {error.message}",
            remedy="check that this machine reaches the internet, then run the command again",
        ) from error
    if not any(address in network for network in networks):
        raise SettingsError(
            [
                SettingsProblem(
                    "cali.yaml",
                    "allowed_cidrs",
                    f"your address {address} is not covered, cali could reach neither cluster nor domain",
                    f"[{address}/32]",
                )
            ]
        )


def check_room(
    settings: Settings,
    pods: Sequence[service_pods.Pod],
    describe: Callable[[Collection[str]], tuple[InstanceType, ...]],
) -> tuple[str, ...]:
    """Hold what the services' pods ask for against the node group at its largest.

    `describe` asks EC2. Raises SettingsError, with the numbers, where pods would wait for ever, and for an
    instance type that EC2 does not have; returns a note where EC2 does not tell.
    """
    if not pods:
        return ()
    try:
        types = describe(settings.eks.instance_types)
    except AwsError as error:
        if error.aws_code in ("InvalidInstanceType", "InvalidParameterValue"):
            raise SettingsError(
                [
                    SettingsProblem(
                        "cali.yaml", "eks.instance_types", f"EC2 does not have them all here: {error.message}"
                    )
                ]
            ) from error
        return (f"whether the services fit the nodes could not be checked: {error.message}",)
    found = service_pods.misfit(pods, types, settings.eks.max_nodes)
    if found is None:
        return ()
    sections = " or ".join(
        f"{name}.sizes" for name in dict.fromkeys(pod.service for pod in found.too_big or pods)
    )
    if found.too_big:
        key, way = "eks.instance_types", "name a bigger type"
    else:
        key, way = "eks.max_nodes", "let it have more nodes or bigger ones"
    raise SettingsError(
        [
            SettingsProblem(
                "cali.yaml", key, f"{found}; {way}, ask for less ({sections}), or switch a service off"
            )
        ]
    )


def check_nodes(settings: Settings, describe: Callable[[str, str], NodeGroupDescription | None]) -> None:
    """Hold the bounds of the node group against its number of nodes just now, which the autoscaler decides.

    `describe` asks EKS by the names of cluster and group. Raises SettingsError where EKS would refuse them.
    """
    name = f"{settings.cluster_name}-nodes"
    try:
        group = describe(settings.cluster_name, name)
    except AwsError:
        # EKS checks it itself, if later.
        return
    if group is None or group.status in _MADE_ANEW:
        return
    low, high, now = settings.eks.min_nodes, settings.eks.max_nodes, group.desired_nodes
    if low <= now <= high:
        return
    key, bound, side = ("min_nodes", low, "above") if now < low else ("max_nodes", high, "below")
    raise SettingsError(
        [
            SettingsProblem(
                "cali.yaml",
                f"eks.{key}",
                f"{bound} is {side} the number of nodes that the group has just now, {now}; EKS refuses that",
            )
        ],
        remedy=f"bring that number to {bound} first, then run the command again:\n"
        f"  aws eks update-nodegroup-config --cluster-name {settings.cluster_name} --nodegroup-name {name} "
        f"--scaling-config desiredSize={bound} --region {settings.region}",
    )


def check_volumes(
    settings: Settings, connect: Callable[[], Kubernetes | None], *, bundled_database: bool
) -> None:
    """Hold the sizes of the services' volumes against the claims that exist.

    `connect` gives the cluster, None where there is none yet. Raises SettingsError, with the numbers, for those
    that Kubernetes would refuse.
    """
    try:
        kubernetes = connect()
        if kubernetes is None:
            return
        try:
            found = volumes.mistakes(settings, kubernetes.get, bundled_database=bundled_database)
        finally:
            kubernetes.close()
    except CaliError:
        # Whoever cannot get in yet may be let in by this very run.
        return
    if not found:
        return
    commands = [command for mistake in found for command in mistake.commands]
    remedy = "\n  ".join(
        ["do it by hand first, then run the command again; the pod goes on meanwhile:", *commands]
    )
    raise SettingsError([mistake.problem for mistake in found], remedy=remedy if commands else "")


def without_git_sync(settings: Settings, secrets: Secrets) -> tuple[str, ...]:
    """The word that Airflow gets no DAGs, where nobody said where they are."""
    if not settings.services.airflow or secrets.gitsync.url:
        return ()
    return ("Airflow runs without GitSync: gitsync.url in secrets.yaml is empty, so it has no DAGs",)
