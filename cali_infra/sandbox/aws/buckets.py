"""Two flaws of moto's: it judges a bucket policy without its conditions, and overlooks a condition of a write.

A policy that denies what does not come over TLS, as a bucket of states has, then denies everything. Here
a statement with a condition is left out of the judgement: the loopback stands for TLS, and other
conditions the sandbox cannot judge.

moto knows `If-None-Match: *` and `If-Match` with an etag when an object is written, and `front.py` lets it answer
one request at a time, so that of many such writes one is the first. S3 refuses `If-None-Match` with an etag, which
moto takes for no condition.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any


def mend() -> None:
    """Put both right; harmless when repeated."""
    from moto.s3.models import FakeBucket
    from moto.s3.responses import S3Response

    FakeBucket.get_permission = _permission  # type: ignore[method-assign, assignment]
    put: Any = S3Response.put_object
    if not hasattr(put, "__wrapped__"):
        S3Response.put_object = _refusing(put)  # type: ignore[method-assign]


def forget(account: str) -> None:
    """Free the names of an account's buckets: moto keeps whose a name is apart from the account's own things."""
    from moto.s3.models import s3_backends

    for name, (_, owner) in list(s3_backends.bucket_accounts.items()):
        if owner == account:
            del s3_backends.bucket_accounts[name]


def _refusing(put: Callable[[Any], Any]) -> Any:
    @functools.wraps(put)
    def put_object(response: Any) -> Any:
        condition = response.headers.get("If-None-Match")
        if condition not in (None, "*"):
            raise NotImplementedError(f"If-None-Match {condition} of PutObject")
        return put(response)

    return put_object


def _permission(bucket: Any, action: str, resource: str) -> Any:
    from moto.iam.access_control import IAMPolicy, PermissionResult

    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(bucket.policy)
    statements = policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    policy["Statement"] = [each for each in statements if not each.get("Condition")]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)
