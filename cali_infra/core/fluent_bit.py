"""The objects of the stage `logging`: Fluent Bit as `k8s/fluent-bit` describes it, with this platform's settings
and the password with which it writes.

It renders; what differs in the cluster and how it is written is `manifests.py`'s. The password reaches the
cluster in a Secret only: it is in no file, and the copy of the folder in the workspace holds none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cali_infra import files
from cali_infra.core import assets
from cali_infra.core.index import WRITER

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

Object = dict[str, Any]

NAMESPACE = "logging"
# The DaemonSet and its container, and how its pods are found. Source: k8s/fluent-bit/daemonset.yaml.
NAME = "fluent-bit"
SELECTOR = {"app.kubernetes.io/name": "fluent-bit"}
SECRET = "fluent-bit-opensearch"
SETTINGS_FILE = "settings.env"
REVISION = "cali/credentials-revision"


@dataclass(frozen=True)
class FluentBit:
    """What this platform's Fluent Bit is told.

    `endpoint` is the domain's `host` or `host:port`, `revision_key` a secret that the cluster does not hold.
    """

    cluster_name: str
    endpoint: str
    index_prefix: str
    user: str
    password: SecretStr
    revision_key: SecretStr

    def settings(self) -> Mapping[str, str]:
        """The variables of its configuration that are no secrets."""
        host, _, port = self.endpoint.partition(":")
        return {
            "CLUSTER_NAME": self.cluster_name,
            "OPENSEARCH_HOST": host,
            "OPENSEARCH_PORT": port or "443",
            "INDEX_PREFIX": self.index_prefix,
        }

    def revision(self) -> str:
        """Changes with the credentials and says nothing about them.

        A plain digest of a password, where every reader of pods sees it, could be guessed at; this one needs
        the key as well.
        """
        said = f"{self.user}\0{self.password.get_secret_value()}".encode()
        key = self.revision_key.get_secret_value().encode()
        return hmac.new(key, said, hashlib.sha256).hexdigest()[:16]


def objects(
    folder: Path,
    *,
    settings: Settings,
    secrets: Secrets,
    endpoint: str,
    render: Callable[[Path], Sequence[Object]],
) -> list[Object]:
    """The objects of the stage: `k8s/fluent-bit`, rendered in a copy in `folder`, and the Secret.

    `endpoint` is the domain's `host` or `host:port`. Raises what `render` raises.
    """
    fluent_bit = FluentBit(
        cluster_name=settings.cluster_name,
        endpoint=endpoint,
        index_prefix=settings.logging.index_prefix,
        user=WRITER,
        password=secrets.opensearch.writer_password,
        revision_key=secrets.hashing_key,
    )
    return build(fluent_bit, source=assets.folder("k8s") / "fluent-bit", folder=folder, render=render)


def build(
    fluent_bit: FluentBit, *, source: Path, folder: Path, render: Callable[[Path], Sequence[Object]]
) -> list[Object]:
    """The objects that the kustomization in `source` makes of these settings, and the Secret."""
    _copy(source, folder, fluent_bit.settings())
    objects = [*render(folder)]
    for obj in objects:
        if obj["kind"] == "DaemonSet":
            # Variables from a Secret are read when a container starts: a new password has to roll the pods.
            meta = obj["spec"]["template"].setdefault("metadata", {})
            meta["annotations"] = {**(meta.get("annotations") or {}), REVISION: fluent_bit.revision()}
    return [*objects, _secret(fluent_bit)]


def _copy(source: Path, folder: Path, settings: Mapping[str, str]) -> None:
    """Make `folder` the folder `source` with settings of its own; `source` is only ever read."""
    files.private_folder(folder)
    wanted = {entry.name: entry.read_bytes() for entry in source.iterdir() if entry.is_file()}
    wanted[SETTINGS_FILE] = "".join(f"{key}={value}\n" for key, value in settings.items()).encode()
    for name, content in wanted.items():
        files.write_private(folder / name, content)
    for entry in folder.iterdir():
        if entry.is_file() and entry.name not in wanted:
            entry.unlink()


def _secret(fluent_bit: FluentBit) -> Object:
    values = {
        "OPENSEARCH_USER": fluent_bit.user,
        "OPENSEARCH_PASSWORD": fluent_bit.password.get_secret_value(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "cali", "app.kubernetes.io/part-of": "cali"},
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
