"""Every check, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import replace

from cali_infra.verify import access, aws, kubernetes, opensearch, releases, services
from cali_infra.verify.checks import Check

CHECKS: tuple[Check, ...] = (
    *aws.CHECKS,
    *access.CHECKS,
    *aws.DRIFT,
    *kubernetes.CHECKS,
    *releases.CHECKS,
    *opensearch.CHECKS,
    *services.CHECKS,
)


def checks(*, own_cluster: bool = True) -> tuple[Check, ...]:
    """Every check; where a kubeconfig leads a rehearsal to another cluster, that one stands on no EKS."""
    if own_cluster:
        return CHECKS
    return tuple(replace(each, needs=()) if each.id == kubernetes.api.id else each for each in CHECKS)
