"""What the Kubernetes API says when it refuses, as typed errors that name object, field and remedy.

The API answers with a Status object; its `details.causes` carry fields and, for conflicts, field managers.
Source: Kubernetes API conventions, "Response Status Kind".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cali_infra.errors import (
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    KubernetesError,
    UnauthorizedError,
    UnreachableError,
)

# What the API server says, with a 500, of an apply that does not fit the kind's schema: a field that is not there,
# a value of another type, two items of a list with one key; or a value that cannot be read, such as a quantity.
_UNTYPED = re.compile(r"^failed to (?:create typed patch|convert new) object \(.*?\)(?:: | to )(.*)", re.S)
_UNTYPED_FIELD = re.compile(r"^\s*(\.\S.*?): ", re.M)
_MANAGER = re.compile(r'conflict with "([^"]+)"')


def error_from(status: int, data: bytes, what: str) -> KubernetesError:
    """The error in an answer with a status of 400 or more; `what` names the object, for a person."""
    said = _status(data)
    message = str(said.get("message") or data.decode(errors="replace").strip()[:300] or f"status {status}")
    causes = (said.get("details") or {}).get("causes") or []
    text = f"{what}: {message}" if what and what not in message else message
    if status == 401:
        return UnauthorizedError(
            f"{text}: the cluster does not know this caller",
            object_ref=what,
            status=status,
            remedy="ask whoever runs the cluster to put your ARN (aws sts get-caller-identity prints it) under "
            "`principals` in secrets.yaml and to run: cali up access",
        )
    if status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return ForbiddenError(
            text,
            object_ref=what,
            status=status,
            remedy="wait until the namespace is gone (kubectl get namespaces), then run the command again",
        )
    if status == 403:
        return ForbiddenError(
            text,
            object_ref=what,
            status=status,
            remedy="ask whoever runs the cluster for an access entry with a higher level",
        )
    if status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        return conflict(what, {cause.get("field", ""): _manager(cause) for cause in causes}, status=status)
    if status == 409:
        return ConflictError(
            text, object_ref=what, status=status, remedy="somebody else changed it: run the command again"
        )
    untyped = _UNTYPED.search(message)
    if status in (400, 422) or untyped:
        fields = [str(cause["field"]) for cause in causes if cause.get("field")]
        if untyped:
            fields += _UNTYPED_FIELD.findall(untyped.group(1))
        return InvalidObjectError(
            text,
            fields=fields,
            object_ref=what,
            status=status,
            remedy=f"correct {', '.join(fields)} in the manifest" if fields else "correct the manifest",
        )
    remedy = "run the command again in a moment" if status in (429, 500, 502, 503, 504) else ""
    if status == 404 and (said.get("details") or {}).get("kind") == "namespaces":
        remedy = "create the namespace first, or put it into the kustomization"
    return KubernetesError(text, object_ref=what, status=status, remedy=remedy)


def unreachable(host: str, words: str, what: str) -> UnreachableError:
    """The error where the API at `host` gives no answer to what concerns `what`; `words` are the network's."""
    return UnreachableError(
        f"the Kubernetes API at {host} cannot be reached: {words}",
        object_ref=what,
        remedy="check that your address is in allowed_cidrs and that the cluster is ACTIVE: "
        "aws eks describe-cluster",
    )


def conflict(what: str, owners: Mapping[str, str], *, status: int | None) -> ConflictError:
    """The error of an apply that sets fields of other managers; `owners` maps each field to its manager."""
    listed = ", ".join(f"{field} ({owner})" for field, owner in owners.items())
    return ConflictError(
        f"{what}: other field managers own {listed}",
        owners=dict(owners),
        object_ref=what,
        status=status,
        remedy="take these fields out of the other tool (kubectl get --show-managed-fields -o yaml shows whose "
        "they are), or take them over with --force-conflicts",
    )


def _status(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _manager(cause: dict[str, Any]) -> str:
    match = _MANAGER.search(str(cause.get("message", "")))
    return match.group(1) if match else "another manager"
