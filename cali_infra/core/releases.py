"""Helm's releases as the cluster has them: one Secret per revision, in the release's namespace.

It reads what Helm wrote and writes nothing. What a status means for the next apply is `wedged.py`'s. Source: Helm
4.1, `pkg/storage/driver/secrets.go`, `util.go` and `pkg/release/v1`: the document is JSON, gzipped, in base64, and
the Secret's own base64 is around that.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes, Object

DEPLOYED, FAILED, UNINSTALLING = "deployed", "failed", "uninstalling"
# What a revision is that worked once.
RAN = (DEPLOYED, "superseded")
PENDING = ("pending-install", "pending-upgrade", "pending-rollback")


@dataclass(frozen=True)
class Revision:
    """One revision; `chart`, `app_version`, `description`, `manifest` are empty and `changed_at` is None where the
    record cannot be read. `secret` and `uid` name the Secret that holds it."""

    name: str
    namespace: str
    number: int
    status: str
    secret: str
    uid: str
    chart: str = ""
    chart_version: str = ""
    app_version: str = ""
    description: str = ""
    changed_at: datetime | None = None
    manifest: str = field(default="", repr=False)


def histories(kubernetes: Kubernetes, namespace: str | None = None) -> dict[tuple[str, str], list[Revision]]:
    """Every release's revisions, the oldest first, by namespace and name. Raises KubernetesError."""
    found: dict[tuple[str, str], list[Revision]] = {}
    for secret in kubernetes.list("v1", "Secret", namespace, {"owner": "helm"}):
        revision = read(secret)
        if revision is not None:
            found.setdefault((revision.namespace, revision.name), []).append(revision)
    return {key: sorted(found[key], key=lambda revision: revision.number) for key in sorted(found)}


def read(secret: Object) -> Revision | None:
    """The revision that a Secret holds; None for one that only carries Helm's label."""
    meta = secret["metadata"]
    labels = meta.get("labels") or {}
    try:
        known: dict[str, Any] = {
            "name": labels["name"],
            "namespace": meta["namespace"],
            "number": int(labels["version"]),
            "status": labels["status"],
            "secret": meta["name"],
            "uid": meta["uid"],
        }
    except (KeyError, ValueError):
        return None
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        return Revision(**known, **_details(json.loads(gzip.decompress(packed))))
    except (KeyError, TypeError, ValueError, AttributeError, OSError, EOFError):
        # What its labels say is still true.
        return Revision(**known)


def _details(document: Mapping[str, Any]) -> dict[str, Any]:
    chart, info = document["chart"]["metadata"], document["info"]
    return {
        "chart": str(chart["name"]),
        "chart_version": str(chart["version"]),
        "app_version": str(chart.get("appVersion") or ""),
        "description": str(info.get("description") or ""),
        "changed_at": _moment(str(info.get("last_deployed") or "")),
        "manifest": str(document.get("manifest") or ""),
    }


def _moment(text: str) -> datetime | None:
    """Go writes nine digits of a second, of which Python takes six."""
    whole, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        found = datetime.fromisoformat(f"{whole}{dot}{rest[: min(digits, 6)]}{rest[digits:]}")
    except ValueError:
        return None
    return found if found.tzinfo else None
