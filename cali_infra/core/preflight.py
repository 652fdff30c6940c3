"""What must be right before a run that changes something, so that it stops at once and not after 20 minutes."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cali_infra.core.stages import Kind, Stage
from cali_infra.errors import AwsError, PreconditionError, SettingsError, SettingsProblem

if TYPE_CHECKING:
    from cali_infra.core.platform import Platform
    from cali_infra.core.settings import Settings

# Stages that speak to the cluster or the domain from this machine.
_REACHED_FROM_HERE = frozenset({"autoscaler", "storage", "index", "logging"})


def check_up(platform: Platform, stages: Sequence[Stage]) -> None:
    """What `up` needs beyond an opened platform: kubectl for manifests, and an address that is let in.

    Raises PreconditionError or SettingsError; nothing is touched then.
    """
    if any(stage.kind is Kind.MANIFESTS for stage in stages):
        check_kubectl(platform.target.environ.get("PATH"))
    if not platform.target.rehearsal and any(stage.name in _REACHED_FROM_HERE for stage in stages):
        check_address(platform.settings, platform.aws.public_address)


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
