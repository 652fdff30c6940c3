"""`cali kubeconfig`: a kubectl context for the platform's cluster."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from cali_infra.cli.context import Options
from cali_infra.errors import UsageError

if TYPE_CHECKING:
    from cali_infra.core.cluster_access import Proof
    from cali_infra.core.kubeconfig import Context, Written

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def kubeconfig(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the context.", metavar="CONTEXT", show_default="the cluster's name"),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="The namespace that kubectl then works in.", metavar="NS")
    ] = None,
    switch: Annotated[bool, typer.Option("--switch/--no-switch", help="Make it the current context.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a context of that name which is not cali's.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="Your profile of the AWS configuration.", show_default="cali.yaml's, AWS_PROFILE"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask the cluster whether it knows you.")
    ] = True,
) -> None:
    """Write a context for kubectl into your kubeconfig; needs cali.yaml and AWS credentials alone."""
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.kubeconfig_file import KubeconfigFile, default_files
    from cali_infra.cli.context import open_target
    from cali_infra.core import cluster_access, exec_credential
    from cali_infra.core import kubeconfig as core
    from cali_infra.core.redaction import redactor
    from cali_infra.core.settings import load_settings

    options: Options = ctx.obj
    name = _name(options, name)
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            f"{namespace!r} is not the name of a namespace",
            remedy="it has lower-case letters, digits and hyphens, 63 at most: --namespace logging",
        )
    if profile is not None and options.sandbox:
        raise UsageError("the sandbox has keys of its own", remedy="leave --profile out")
    path, others = (options.kubeconfig, ()) if options.kubeconfig else default_files(options.environ)

    settings = load_settings(options.project, options.environ, options.environment)
    target = open_target(options, settings.environment)
    options.ui.hide(redactor(None, target.environ))
    if not target.rehearsal:
        profile = profile or settings.profile or _profile_of(options)
    aws = Aws(settings.region, target.environ, profile)
    cluster = cluster_access.find(aws, settings.cluster_name)
    plugin = exec_credential.plugin(cluster.name, settings.region, profile, environ=target.credential_environ)
    context = core.context_of(cluster, plugin, name=name, namespace=namespace)
    written = core.write(KubeconfigFile(path), context, others=others, overwrite=overwrite, switch=switch)
    proof = None
    if check and written.proxy is None:
        # By a proxy that somebody put into the entry kubectl may get where cali does not.
        proof = cluster_access.prove(aws, cluster)
    _show(options, context, written, proof)
    if options.json_output:
        options.ui.json(
            {
                "ok": True,
                "file": str(written.file),
                "context": context.name,
                "cluster": cluster.name,
                "changed": written.changed,
                "backup": str(written.backup) if written.backup else None,
                "current": written.current,
                "caller": proof.caller if proof else None,
                "problem": proof.problem if proof else None,
            }
        )


def _name(options: Options, name: str | None) -> str | None:
    if name is not None and options.context is not None and name != options.context:
        raise UsageError(
            f"--name {name} and --context {options.context} name two contexts", remedy="leave one of them out"
        )
    name = name if name is not None else options.context
    if name is not None and (not name.strip() or not name.isprintable()):
        raise UsageError(f"{name!r} is no name for a context", remedy="--name platform")
    return name


def _profile_of(options: Options) -> str | None:
    """The profile that this shell works with; the shell in which kubectl runs later may have none."""
    environ = options.environ
    return None if environ.get("AWS_ACCESS_KEY_ID") else environ.get("AWS_PROFILE") or None


def _show(options: Options, context: Context, written: Written, proof: Proof | None) -> None:
    ui = options.ui
    for warning in written.warnings:
        ui.warn(warning)
    now = "is the current one" if written.current else "is not the current one"
    if written.changed:
        ui.success(f"{written.file} has the context {context.name}, which {now}")
    else:
        ui.success(f"{written.file} had the context {context.name} already, which {now}; nothing was written")
    if written.backup:
        ui.info(f"  the file as it was: {written.backup}")
    if proof and proof.caller:
        ui.info(f"  the cluster knows you as {proof.caller}")
    elif proof:
        ui.warn(f"the context is right, but {proof.problem}\n  {proof.remedy}")
    ui.info(f"  try it: {_command(options, context, written)}")


def _command(options: Options, context: Context, written: Written) -> str:
    """What to type, in this very shell."""
    words = ["kubectl"]
    if options.kubeconfig and not _is_default(options, written):
        words += ["--kubeconfig", str(written.file)]
    if not written.current:
        words += ["--context", context.name]
    return shlex.join([*words, "get", "nodes"])


def _is_default(options: Options, written: Written) -> bool:
    from cali_infra.adapters.kubeconfig_file import default_files

    try:
        return default_files(options.environ)[0] == written.file
    except UsageError:
        return False
