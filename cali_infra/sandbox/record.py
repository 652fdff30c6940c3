"""The record of a running sandbox: where its stand-ins listen, and the surroundings they are reached by.

The server writes it and clients read it, so it imports nothing heavy. It holds the operator's key of the
sandbox's own AWS, hence mode 0600. Whether the process behind it still lives is `process.py`'s to tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

# Below the project's folder. The settings keep this name from being an environment's.
FOLDER = Path(".cali", "sandbox")
RECORD = "sandbox.json"
LOCK = "sandbox.lock"
START_LOCK = "start.lock"
LOG = "sandbox.log"
CA = "ca.pem"
KUBECONFIG = "kubeconfig"
# What the containers of the services and of Jobs find, Secrets among it; folders.
PODS = "pods"
JOBS = "jobs"

# The provider looks at a new domain for the first time after ten minutes, or when this is over; the
# stand-in's domain is there at once.
DOMAIN_TIMEOUT = "1s"

# What would send a call elsewhere, or sign it with another's credentials, if it stayed in the environment.
_STRANGERS = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CA_BUNDLE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_ACCOUNT_ID",
    }
)
_SERVICE_ENDPOINT = "AWS_ENDPOINT_URL_"


@dataclass(frozen=True)
class SandboxAddress:
    """One running sandbox. `opensearch_url` and `kubeconfig` are None while there is no domain, no cluster.

    `id` is new with each start; `reattach` is the value of TF_REATTACH_PROVIDERS; `control_url` answers with
    the sandbox's status to whoever knows it.
    """

    id: str
    pid: int
    aws_endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    reattach: str
    ca_file: Path
    control_url: str = field(repr=False)
    log: Path
    opensearch_url: str | None = None
    kubeconfig: Path | None = None

    def aws(self) -> dict[str, str]:
        """The variables by which AWS' clients find the sandbox."""
        return {
            "AWS_ENDPOINT_URL": self.aws_endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            # boto3 reads this one only.
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def credential_environ(self) -> dict[str, str]:
        """What turns `cali token` to the sandbox, whatever environment it is run in."""
        # An empty session token is none; the caller's own would not fit the sandbox's key.
        return {**self.aws(), "AWS_SESSION_TOKEN": ""}

    def environ(self) -> dict[str, str]:
        """The variables by which AWS' clients, Terraform and cali's settings find the sandbox."""
        return {
            **self.aws(),
            "TF_REATTACH_PROVIDERS": self.reattach,
            "CALI_SEARCH__CREATE_TIMEOUT": DOMAIN_TIMEOUT,
            "CALI_SEARCH__UPDATE_TIMEOUT": DOMAIN_TIMEOUT,
            "CALI_SEARCH__DELETE_TIMEOUT": DOMAIN_TIMEOUT,
        }

    def surroundings(self, environ: Mapping[str, str]) -> dict[str, str]:
        """A whole environment that leads to the sandbox and nowhere else.

        Variables that would choose other credentials or another endpoint are left out: an empty
        AWS_PROFILE, for one, is a profile named "" to boto3.
        """
        return {**neutral(environ), **self.environ()}

    def to_json(self) -> str:
        """The record's text."""
        return json.dumps(asdict(self), indent=2, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SandboxAddress:
        """Read a record's text; raises ValueError for one that is damaged or of another version."""
        document: Any = json.loads(text)
        if not isinstance(document, dict) or set(document) != {each.name for each in fields(cls)}:
            raise ValueError("not a sandbox's record")
        for name in ("ca_file", "log", "kubeconfig"):
            if document[name] is not None:
                document[name] = Path(document[name])
        return cls(**document)


def neutral(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what leads to a real AWS, and with the loopback never sent to a proxy."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _STRANGERS and not name.startswith(_SERVICE_ENDPOINT)
    }
    hosts = "127.0.0.1,localhost"
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = f"{kept[name]},{hosts}" if kept.get(name) else hosts
    return kept
