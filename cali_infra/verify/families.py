"""Every check, in the order in which they are shown."""

from __future__ import annotations

from cali_infra.verify import aws, kubernetes, opensearch, releases
from cali_infra.verify.checks import Check

CHECKS: tuple[Check, ...] = (
    *aws.CHECKS,
    *aws.DRIFT,
    *kubernetes.CHECKS,
    *releases.CHECKS,
    *opensearch.CHECKS,
)
