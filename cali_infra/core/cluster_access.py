"""A cluster found by its name, for those who have nothing but `cali.yaml` and AWS credentials.

No state is read and no secret: DescribeCluster says where the cluster is, and STS whose bearer it gets.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cali_infra.errors import (
    AwsError,
    CaliError,
    PreconditionError,
    UnauthorizedError,
    UnreachableError,
    WrongTargetError,
)

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws, ClusterDescription
    from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes
    from cali_infra.core.settings import Settings
    from cali_infra.core.target import Target

_GOING = ("DELETING", "FAILED")
_WORLD = "0.0.0.0/0"
# For a quick look, in seconds: to connect, and between two bytes.
_QUICK = (3.0, 10.0)


@dataclass(frozen=True)
class Proof:
    """What became of one call with the caller's own bearer: the name under which the cluster knows the caller, or
    why it did not answer and what to do.
    """

    caller: str | None
    problem: str | None = None
    remedy: str = ""


def find(aws: Aws, name: str) -> ClusterDescription:
    """The cluster of that name, which has an address. Raises PreconditionError, with the account that was asked."""
    found = aws.cluster(name)
    if found is None:
        raise PreconditionError(
            f"there is no cluster {name} in {aws.region}{of_account(aws)}",
            remedy="check project, environment and region in cali.yaml, and that your credentials are those of the "
            "platform's account (AWS_PROFILE; kubeconfig: --profile); if it was never made: cali up",
        )
    if found.status in _GOING or not found.endpoint or not found.ca:
        wait = f"aws eks wait cluster-active --name {name} --region {aws.region}"
        raise PreconditionError(
            f"the cluster {name} cannot be used: it is {found.status}",
            remedy="ask whoever runs the platform: cali status"
            if found.status in _GOING
            else f"making a cluster takes about 12 minutes; wait for it, then run the command again: {wait}",
        )
    return found


def access_to(aws: Aws, cluster: ClusterDescription) -> ClusterAccess:
    """How this caller reaches a cluster: by its endpoint and a bearer that AWS signs."""
    from cali_infra.adapters.kubernetes import ClusterAccess

    return ClusterAccess(cluster.endpoint, base64.b64decode(cluster.ca), partial(aws.token, cluster.name))


def connect(target: Target, settings: Settings, aws: Aws, **timing: Any) -> Kubernetes:
    """A connection to the cluster of these settings, or to what `--kubeconfig` names: on a real account only to
    that same cluster; `timing` as for a new connection.

    Raises PreconditionError where there is no cluster, and WrongTargetError where the kubeconfig leads to another.
    """
    from cali_infra.adapters.kubernetes import Kubernetes

    if target.kubeconfig is None:
        return Kubernetes(access_to(aws, find(aws, settings.cluster_name)), **timing)
    named = Kubernetes.from_kubeconfig(target.kubeconfig, target.context, environ=target.environ, **timing)
    if not target.rehearsal:
        endpoint = find(aws, settings.cluster_name).endpoint
        if named.host.rstrip("/").lower() != endpoint.rstrip("/").lower():
            raise WrongTargetError(
                f"{target.kubeconfig} leads to {named.host}, the cluster of this environment is {endpoint}",
                remedy="choose the right --context, or leave --kubeconfig out",
            )
    return named


def prove(aws: Aws, cluster: ClusterDescription) -> Proof:
    """Ask the cluster once who the caller is; takes seconds at most and raises nothing that is cali's."""
    try:
        return Proof(whoami(aws, cluster, patience=0.0, timeout=_QUICK))
    except UnauthorizedError as error:
        return Proof(None, f"the cluster does not know you{_by_arn(aws)}", error.remedy)
    except UnreachableError as error:
        return Proof(None, error.message, way_in(cluster))
    except CaliError as error:
        return Proof(None, error.message, error.remedy)


def whoami(aws: Aws, cluster: ClusterDescription, **timing: Any) -> str:
    """The name under which the cluster knows the caller with these keys; `timing` as of Kubernetes.

    Raises KubernetesError.
    """
    from cali_infra.adapters.kubernetes import Kubernetes

    kubernetes = Kubernetes(access_to(aws, cluster), **timing)
    try:
        return kubernetes.whoami()
    finally:
        kubernetes.close()


def way_in(cluster: ClusterDescription) -> str:
    """What to do where a cluster's endpoint does not answer: who may reach it, and how to become one of them."""
    if _WORLD in cluster.public_cidrs:
        return "check your network and its proxy: the cluster's endpoint is open to every address"
    if cluster.public_cidrs:
        reach = f"the cluster's endpoint answers to {', '.join(cluster.public_cidrs)} only"
    else:
        reach = "the cluster's endpoint is private: reach it from inside the VPC"
    return f"{reach}; or have your address put under allowed_cidrs in cali.yaml and applied: cali up eks"


def of_account(aws: Aws) -> str:
    """The account that was asked and who asked, for a sentence; empty where nobody can say."""
    try:
        identity = aws.identity()
    except AwsError:
        return ""
    return f" of account {identity.account}, where you are {identity.arn}"


def _by_arn(aws: Aws) -> str:
    try:
        return f" as {aws.identity().arn}"
    except AwsError:
        return ""
