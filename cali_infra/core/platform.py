"""One run's whole equipment: settings, doors and a driver for every stage, put together in one place.

It decides nothing about order or approval (`deploy.py`, `destroy.py`) and opens no connection before it is
needed: `inspect_owner` asks STS, the rest waits for its stage.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from cali_infra.core import assets, health, stacks
from cali_infra.core.cluster_stages import ClusterStage, Work
from cali_infra.core.drivers import StageDriver
from cali_infra.core.inputs import Inputs
from cali_infra.core.recovery import Recovery
from cali_infra.core.stacks import TerraformStage
from cali_infra.core.stages import STAGES, Kind, closure
from cali_infra.core.target import Target
from cali_infra.core.workspace import Owner, Workspace

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws, Identity
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.adapters.terraform import Terraform
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings


@dataclass(frozen=True)
class Platform:
    """What a command works with. `owner` is the caller's account, region and realm."""

    target: Target
    settings: Settings
    secrets: Secrets
    workspace: Workspace
    aws: Aws
    terraform: Terraform
    identity: Identity
    owner: Owner
    inputs: Inputs
    drivers: dict[str, StageDriver]
    kubernetes: Callable[[], Kubernetes]

    def stack(self, name: str) -> TerraformStage:
        """The driver of a Terraform stage."""
        driver = self.drivers[name]
        assert isinstance(driver, TerraformStage)
        return driver


def open_platform(
    target: Target,
    settings: Settings,
    secrets: Secrets,
    *,
    redact: Callable[[str], str],
    now: datetime,
    clock: Callable[[], float],
) -> Platform:
    """Check tools and caller, then put everything together.

    Raises PreconditionError for a missing or old Terraform, AwsError when the caller is unknown, and
    WrongTargetError when the workspace belongs to another account, region or realm; nothing is touched then.
    """
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.terraform import Terraform

    workspace = Workspace(target.workspace)
    aws = Aws(settings.region, target.environ, settings.profile)
    terraform = Terraform(
        settings.terraform_binary,
        environ=target.environ,
        log=workspace.log,
        redact=redact,
        plugin_cache=workspace.plugin_cache,
    )
    with ThreadPoolExecutor(2) as pool:
        version, caller = pool.submit(terraform.version), pool.submit(aws.identity)
        version.result()
        identity = caller.result()
    owner = Owner(identity.account, settings.region, target.realm)
    workspace.check_owner(owner)
    workspace.create()

    drivers: dict[str, StageDriver] = {}

    def stack(name: str) -> TerraformStage:
        driver = drivers[name]
        assert isinstance(driver, TerraformStage)
        return driver

    inputs = Inputs(
        settings, secrets, identity.account, identity.arn, now, lambda name: stack(name).outputs()
    )
    recovery = Recovery(terraform, partial(health.inspect, aws), clock)
    for stage in STAGES:
        if stage.kind is Kind.TERRAFORM:
            drivers[stage.name] = TerraformStage(
                stage,
                terraform=terraform,
                workspace=workspace,
                source=assets.folder("terraform") / stage.name,
                backend=stacks.backend(settings, stage.name),
                variables=partial(inputs.variables, stage.name),
                needs=[stack(need) for need in stage.needs],
                recovery=recovery,
            )
    kubernetes = _Once(partial(_kubernetes, target, settings, aws, stack))
    makers: dict[str, Callable[[], Work]] = {
        "storage": partial(_storage, kubernetes),
        "index": partial(_index, target, settings, secrets, stack),
        "logging": partial(_logging, target, settings, secrets, workspace, kubernetes, stack),
    }
    for stage in STAGES:
        if stage.kind is not Kind.TERRAFORM:
            below = [drivers[need] for need in stage.needs]
            drivers[stage.name] = ClusterStage(
                stage,
                stacks=[stack(s.name) for s in closure(stage.name) if s.kind is Kind.TERRAFORM],
                below=[driver for driver in below if isinstance(driver, ClusterStage)],
                make=makers[stage.name],
            )
    return Platform(
        target, settings, secrets, workspace, aws, terraform, identity, owner, inputs, drivers, kubernetes
    )
