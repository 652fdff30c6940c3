"""The platform as the checks see it: what they may ask, made from a run's equipment or by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws, Identity
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.core.access import Entry
    from cali_infra.core.platform import Platform
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings
    from cali_infra.core.stacks import Drift
    from cali_infra.core.workspace import Owner
    from cali_infra.plans import StagePlan


class Stack(Protocol):
    """What is asked of a Terraform stack, once it is open; `core.stacks.TerraformStage` is one."""

    def outputs(self) -> Mapping[str, Any]: ...

    def complete(self) -> bool: ...

    def exists(self) -> bool: ...

    def drift(self, cancel: Event) -> Drift: ...


@dataclass(frozen=True)
class Subject:
    """What the checks may ask. Nothing is asked before a check does.

    `owner` is whom the workspace belongs to, None before its first apply, and `principals` whom secrets.yaml lists.
    `stack` opens a Terraform stack, `plan`
    tells what applying a stage of another kind would change: both take a moment. `alone` keeps other runs of cali
    out of the workspace. `head` is the commit of the branch with the DAGs, and raises GitError where the repository
    cannot be asked. `search_ca` is the authority behind the domain's certificate where that is none of the public
    ones.
    """

    settings: Settings
    secrets: Secrets
    aws: Aws
    identity: Callable[[], Identity]
    owner: Callable[[], Owner | None]
    principals: Callable[[], Sequence[Entry]]
    stack: Callable[[str, Event], Stack]
    plan: Callable[[str, Event], StagePlan]
    kubernetes: Callable[[], Kubernetes]
    alone: Callable[[], AbstractContextManager[None]]
    head: Callable[[], str]
    search_ca: Path | None = None


def of_platform(platform: Platform, *, opened: bool = False) -> Subject:
    """The equipment of a run as a subject; `opened` says that its stacks have been opened already."""
    from cali_infra.core import git_sync
    from cali_infra.core.progress import Silent

    target = platform.target

    def stack(name: str, cancel: Event) -> Stack:
        if not opened:
            platform.drivers[name].open(cancel)
        return platform.stack(name)

    def plan(name: str, cancel: Event) -> StagePlan:
        return platform.drivers[name].plan(Silent(), cancel)

    return Subject(
        settings=platform.settings,
        secrets=platform.secrets,
        aws=platform.aws,
        identity=platform.aws.identity,
        owner=platform.workspace.owner,
        principals=platform.inputs.principals,
        stack=stack,
        plan=plan,
        kubernetes=platform.kubernetes,
        alone=partial(platform.workspace.exclusive),
        head=partial(
            git_sync.head,
            platform.settings,
            platform.secrets,
            target.environ,
            rehearsal=target.rehearsal,
        ),
        search_ca=target.search_ca,
    )
