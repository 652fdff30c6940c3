"""Every check, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import replace

from cali_infra.verify import access, aws, deep, e2e, kubernetes, opensearch, releases, services
from cali_infra.verify.checks import Check

CHECKS: tuple[Check, ...] = (
    *aws.CHECKS,
    *access.CHECKS,
    *aws.DRIFT,
    *kubernetes.CHECKS,
    *releases.CHECKS,
    *opensearch.CHECKS,
    e2e.log_line,
    e2e.once,
    *services.CHECKS,
    e2e.grafana_line,
    e2e.analysis,
    *deep.CHECKS,
)


def checks(*, own_cluster: bool = True) -> tuple[Check, ...]:
    """Every check; where a kubeconfig leads a rehearsal to another cluster, that one stands on no EKS."""
    if own_cluster:
        return CHECKS
    return tuple(replace(each, needs=()) if each.id == kubernetes.api.id else each for each in CHECKS)
