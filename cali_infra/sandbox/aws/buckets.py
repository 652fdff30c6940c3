"""A flaw of moto's: it judges a bucket policy without its conditions.

A policy that denies what does not come over TLS, as a bucket of states has, then denies everything. Here
a statement with a condition is left out of the judgement: the loopback stands for TLS, and other
conditions the sandbox cannot judge.
"""

from __future__ import annotations

import json
from typing import Any


def mend() -> None:
    """Make moto's buckets judge by statements without conditions only; harmless when repeated."""
    from moto.s3.models import FakeBucket

    FakeBucket.get_permission = _permission  # type: ignore[method-assign, assignment]


def _permission(bucket: Any, action: str, resource: str) -> Any:
    from moto.iam.access_control import IAMPolicy, PermissionResult

    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(bucket.policy)
    statements = policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    policy["Statement"] = [each for each in statements if not each.get("Condition")]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)
