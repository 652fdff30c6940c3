"""How other programs ask this very cali for a bearer: the words, and the exec plugin of a kubeconfig.

The answer to these words is `cli/credential.py`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

# Every kubectl and every other client takes this one; v1 needs kubectl 1.22, and says nothing more.
_VERSION = "client.authentication.k8s.io/v1beta1"


def words(cluster: str, region: str, profile: str | None = None) -> tuple[str, list[str]]:
    """The program and its arguments, which print an ExecCredential for the cluster."""
    # -P: kubectl runs it in whatever folder it is run in, and no module there may take the place of one of ours.
    arguments = ["-P", "-m", "cali_infra", "token", "--cluster", cluster, "--region", region]
    return sys.executable, arguments + (["--profile", profile] if profile else [])


def plugin(
    cluster: str, region: str, profile: str | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The `exec` of a kubeconfig's user. `environ` goes into it as it stands: on AWS it must stay empty.

    Source: Kubernetes, "client-go credential plugins".
    """
    command, arguments = words(cluster, region, profile)
    found: dict[str, Any] = {
        "apiVersion": _VERSION,
        "command": command,
        "args": arguments,
        # A profile may ask for the code of an MFA device; keys that are given along need nobody.
        "interactiveMode": "Never" if environ else "IfAvailable",
        "installHint": "This context was written by cali, which is no longer there: install it again and run "
        "`cali kubeconfig`.",
    }
    if environ:
        found["env"] = [{"name": name, "value": value} for name, value in environ.items()]
    return found


def is_own(found: object) -> bool:
    """Whether an `exec` of a kubeconfig runs a cali, this one or another."""
    arguments = found.get("args") if isinstance(found, Mapping) else None
    return isinstance(arguments, list) and ["-m", "cali_infra", "token"] in (
        arguments[at : at + 3] for at in range(len(arguments))
    )
