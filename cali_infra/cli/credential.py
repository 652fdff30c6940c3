"""The exec credential without the command line's parser, for the programs that ask for it again and again.

kubectl runs `python -m cali_infra token` for each of its commands, the Helm provider several times for each
of Terraform's. They use exactly the words that cali writes for them, and for those the parser, which takes
longer than the signature, is left out. Everything else, errors too, is `token.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Token
    from cali_infra.ui import UI

_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1beta1", "v1"))


def document(token: Token, environ: Mapping[str, str]) -> dict[str, object]:
    """The ExecCredential, in the version that the caller asks for by KUBERNETES_EXEC_INFO; else v1beta1.

    Source: Kubernetes, "client-go credential plugins".
    """
    try:
        asked = json.loads(environ.get("KUBERNETES_EXEC_INFO") or "{}").get("apiVersion")
    except (ValueError, AttributeError):
        asked = None
    return {
        "apiVersion": asked if asked in _VERSIONS else _VERSIONS[0],
        "kind": "ExecCredential",
        "status": {
            "token": token.value,
            "expirationTimestamp": token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }


def answered(arguments: Sequence[str], environ: Mapping[str, str], ui: UI) -> bool:
    """Answer `token --cluster NAME --region REGION [--profile NAME]`; False for any other words, or when it
    fails: the parser then says what is wrong.
    """
    if any(value.startswith("-") for value in arguments[2::2]):
        return False
    match arguments:
        case ["token", "--cluster", cluster, "--region", region]:
            profile = None
        case ["token", "--cluster", cluster, "--region", region, "--profile", profile]:
            pass
        case _:
            return False
    from cali_infra.adapters.aws import Aws

    try:
        token = Aws(region, environ, profile).token(cluster)
    except Exception:
        # Asked once more by the parser's way, it is said in cali's words, and never in a traceback.
        return False
    ui.json(document(token, environ))
    return True
