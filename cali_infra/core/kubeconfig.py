"""A context for kubectl: the three entries that it is made of, and how they get into a kubeconfig.

Cluster and user are named by the cluster's ARN behind `cali:`, so that they meet neither those of the AWS CLI nor
those of another account; the context has the name that people type. What cali did not write is never changed
unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cali_infra.core import exec_credential
from cali_infra.errors import CaliError, RefusedError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import ClusterDescription
    from cali_infra.adapters.kubeconfig_file import KubeconfigFile
    from cali_infra.adapters.kubeconfig_text import Kubeconfig

# With an authority at hand these two contradict it: kubectl refuses the one and prefers the data to the other.
_CONTRADICTIONS = ("insecure-skip-tls-verify", "certificate-authority")


@dataclass(frozen=True)
class Context:
    """A context and what it stands on. `entry` names its cluster and its user, `ca` is base64."""

    name: str
    entry: str
    server: str
    ca: str
    plugin: dict[str, Any] = field(repr=False)
    namespace: str | None = None

    @property
    def cluster(self) -> dict[str, Any]:
        """The body of the cluster's entry."""
        return {"server": self.server, "certificate-authority-data": self.ca}

    @property
    def link(self) -> dict[str, Any]:
        """The body of the context's entry."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {"cluster": self.entry, "user": self.entry, **namespace}


@dataclass(frozen=True)
class Written:
    """What became of a kubeconfig. `backup` is the file as it was before; `proxy` the one that the cluster's entry
    names. `warnings` are sentences.
    """

    file: Path
    changed: bool
    backup: Path | None
    current: bool
    proxy: str | None
    warnings: tuple[str, ...]


def context_of(
    cluster: ClusterDescription,
    plugin: dict[str, Any],
    *,
    name: str | None = None,
    namespace: str | None = None,
) -> Context:
    """The context for a cluster of EKS; its name is the cluster's unless another is given."""
    return Context(
        name or cluster.name, f"cali:{cluster.arn}", cluster.endpoint, cluster.ca, plugin, namespace
    )


def document(contexts: Iterable[Context]) -> dict[str, Any]:
    """A whole kubeconfig of these contexts, the last one current."""
    made = list(contexts)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": made[-1].name,
        "clusters": [{"name": one.entry, "cluster": one.cluster} for one in made],
        "contexts": [{"name": one.name, "context": one.link} for one in made],
        "users": [{"name": one.entry, "user": {"exec": one.plugin}} for one in made],
    }


def merge(
    config: Kubeconfig, context: Context, *, overwrite: bool = False, switch: bool = True
) -> Kubeconfig:
    """The kubeconfig with the context in it; the very same where it is in it already.

    What people added to cali's own entries (a proxy, a namespace, variables) stays. Raises RefusedError where an
    entry of the name is not cali's for this cluster, unless `overwrite`.
    """
    _check_context(config, context, overwrite)
    wanted = {
        "clusters": (context.entry, _cluster(config, context)),
        "users": (context.entry, _user(config, context, overwrite)),
        "contexts": (context.name, _link(config, context)),
    }
    changes = {
        section: named for section, named in wanted.items() if config.body(section, named[0]) != named[1]
    }
    current = context.name if switch and config.current != context.name else None
    return config.put(changes, current) if changes or current else config


def write(
    file: KubeconfigFile,
    context: Context,
    *,
    others: Iterable[Path] = (),
    overwrite: bool = False,
    switch: bool = True,
) -> Written:
    """Merge the context into a file. `others` are those that kubectl reads after it.

    Raises RefusedError as `merge`, also where an entry of another file would be hidden; InvalidKubeconfigError and
    KubeconfigError as the file's door.
    """
    warnings: list[str] = []
    for other in others:
        try:
            found = file.at(other).read()
        except CaliError as error:
            warnings.append(f"kubectl reads this file of KUBECONFIG too: {error.message}")
            continue
        _check_context(found, context, overwrite)
    done = file.change(lambda config: merge(config, context, overwrite=overwrite, switch=switch))
    if done.open_mode is not None and done.changed:
        warnings.append(f"{file.path} was open to others (mode {done.open_mode:04o}); its mode is 0600 now")
    elif done.open_mode is not None:
        warnings.append(f"{file.path} is open to others (mode {done.open_mode:04o}): chmod 600 {file.path}")
    cluster = done.config.body("clusters", context.entry) or {}
    return Written(
        file=file.path,
        changed=done.changed,
        backup=done.backup,
        current=done.config.current == context.name,
        proxy=cluster.get("proxy-url"),
        warnings=tuple(warnings),
    )


def _check_context(config: Kubeconfig, context: Context, overwrite: bool) -> None:
    found = config.body("contexts", context.name)
    if found is None or overwrite or _is_of(found, context):
        return
    raise RefusedError(
        f"{config.where} has another context {context.name}: its cluster is {found.get('cluster')}, its user "
        f"{found.get('user')}",
        remedy=f"choose another name: cali kubeconfig --name {context.name}-2; or put this one in its place: "
        "cali kubeconfig --overwrite",
    )


def _is_of(link: dict[str, Any], context: Context) -> bool:
    return link.get("cluster") == link.get("user") == context.entry


def _cluster(config: Kubeconfig, context: Context) -> dict[str, Any]:
    """A cluster that was made anew has another address and another authority under the same ARN."""
    found = config.body("clusters", context.entry) or {}
    kept = {key: value for key, value in found.items() if key not in _CONTRADICTIONS}
    return {**kept, **context.cluster}


def _user(config: Kubeconfig, context: Context, overwrite: bool) -> dict[str, Any]:
    found = config.body("users", context.entry)
    own = found is not None and exec_credential.is_own(found.get("exec"))
    if found is None or (overwrite and not own):
        return {"exec": context.plugin}
    if not own:
        raise RefusedError(
            f"{config.where}: the user {context.entry} does not run cali any more",
            remedy="put cali's in its place: cali kubeconfig --overwrite",
        )
    return {**found, "exec": {**found["exec"], **context.plugin}}


def _link(config: Kubeconfig, context: Context) -> dict[str, Any]:
    found = config.body("contexts", context.name) or {}
    # What belonged to another cluster, its namespace for one, goes with it.
    return {**(found if _is_of(found, context) else {}), **context.link}
