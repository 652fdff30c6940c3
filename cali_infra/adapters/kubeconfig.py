"""Reading a kubeconfig: where a context's cluster is, and how its user is known there.

The file's merging, its certificates and its exec plugins are the official client's business; this module turns
what it finds into a `ClusterAccess`. Nothing is written back.
"""

# The client's types stop before its package `config`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cali_infra.adapters.kubernetes import ClusterAccess
from cali_infra.errors import UnauthorizedError, UnreachableError


@dataclass(frozen=True)
class _Bearer:
    value: str
    expires_at: datetime | None = None


def read(path: Path, context: str | None, environ: Mapping[str, str] | None = None) -> ClusterAccess:
    """The access that a context describes, or the file's current one.

    `environ` is the environment of an exec plugin; None is this process' own. Raises UnreachableError when the
    file, the context or what it names is not usable.
    """
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, kube_config

    remedy = f"check the file and the context: kubectl --kubeconfig {path} config get-contexts"
    try:
        merged = kube_config.KubeConfigMerger(str(path)).config
        if merged is None:
            raise UnreachableError(f"there is no kubeconfig {path}", remedy="check --kubeconfig")
        plugin = _take_plugin(merged.value, context)
        configuration: Any = Configuration()
        kube_config.KubeConfigLoader(merged, active_context=context, config_base_path=None).load_and_set(
            configuration
        )
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{path}: {error}", remedy=remedy) from error
    return ClusterAccess(
        host=configuration.host,
        ca_pem=_bytes(configuration.ca_cert_data, configuration.ssl_ca_cert),
        token=_provider(path, plugin, configuration, environ),
        certificate=_path(configuration.cert_file),
        key=_path(configuration.key_file),
        verify=bool(configuration.verify_ssl),
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
    )


def _take_plugin(merged: dict[str, Any], context: str | None) -> Any:
    """Take the exec plugin out of the context's user, and return it.

    The client's loader would run it at once, with this process' environment, and keep its failure to itself.
    """
    name = context or merged.get("current-context")
    chosen = [item["context"] for item in merged.get("contexts") or () if item["name"] == name]
    for user in merged.get("users") or ():
        if chosen and user["name"] == chosen[0].safe_get("user") and user["user"]:
            return user["user"].value.pop("exec", None)
    return None


def _provider(
    path: Path, plugin: Any, configuration: Any, environ: Mapping[str, str] | None
) -> Callable[[], _Bearer] | None:
    if plugin is not None:
        return lambda: _run(path, plugin, environ)
    header = configuration.api_key.get("BearerToken")
    if not header:
        return None
    bearer = _Bearer(header.removeprefix("Bearer "))
    return lambda: bearer


def _run(path: Path, plugin: Any, environ: Mapping[str, str] | None) -> _Bearer:
    from kubernetes.config import ConfigException
    from kubernetes.config.exec_provider import ExecProvider
    from kubernetes.config.kube_config import ConfigNode

    command = " ".join([str(plugin.get("command")), *map(str, plugin.get("args") or ())])
    try:
        provider = ExecProvider(ConfigNode("exec", plugin), str(path.parent))
        own = {item["name"]: item["value"] for item in plugin.get("env") or ()}
        provider.env = {**(os.environ if environ is None else environ), **own}
        status = provider.run()
        token = status.get("token")
    except (ConfigException, OSError, KeyError) as error:
        raise UnauthorizedError(
            f"the command for a token in {path} failed: {error}", remedy=f"run it by hand: {command}"
        ) from error
    if not token:
        raise UnauthorizedError(
            f"the command for a token in {path} printed none", remedy=f"run it by hand: {command}"
        )
    ends = status.get("expirationTimestamp")
    return _Bearer(str(token), datetime.fromisoformat(ends) if ends else None)


def _bytes(data: str | bytes | None, file: str | None) -> bytes | None:
    if data:
        return data.encode() if isinstance(data, str) else data
    return Path(file).read_bytes() if file else None


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None
