"""What `grant-access`, `revoke-access` and `list-access` share: the run, the table, the document."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cali_infra.core.progress import Silent

if TYPE_CHECKING:
    from threading import Event

    from cali_infra.cli.context import Options
    from cali_infra.core.access import Record
    from cali_infra.core.access_change import AccessStack
    from cali_infra.core.access_list import Row
    from cali_infra.core.lease import Lease
    from cali_infra.core.platform import Platform
    from cali_infra.core.progress import Progress
    from cali_infra.ui import UI


@dataclass(frozen=True)
class AccessRun:
    """An opened environment, the stack whose part is changed, and the event that Ctrl-C sets."""

    platform: Platform
    stack: AccessStack
    cancel: Event
    now: datetime
    watch: Progress

    def creator(self) -> str:
        """The ARN of whoever created the cluster."""
        return self.platform.inputs.creator()

    def own(self) -> str:
        """The caller's own principal: of a role's session, the role."""
        return self.platform.aws.caller_principal(self.platform.identity).arn


class Lines(Silent):
    """A watcher for commands of a few seconds: what is worth a line is one, the rest is left to `--verbose`."""

    def __init__(self, ui: UI) -> None:
        self._ui = ui

    def resource(self, stage: str, address: str, action: str, state: str, elapsed: float) -> None:
        if state in ("started", "complete", "errored"):
            self._ui.debug(f"{address}: {action} {state}")

    def note(self, text: str, *, stage: str = "") -> None:
        self._ui.info(text)

    def warn(self, text: str, *, stage: str = "") -> None:
        self._ui.warn(text)


@contextmanager
def access_run(options: Options, operation: str) -> Iterator[AccessRun]:
    """Open the environment that the options name, alone in its workspace: another run in it is waited for."""
    from cali_infra.cli import running
    from cali_infra.core.lease import lease_for
    from cali_infra.core.turns import Waiting

    with running.running(options, exclusive=False) as run:
        platform = run.platform

        def turn(watch: Progress, cancel: Event) -> AbstractContextManager[Lease]:
            return lease_for(
                platform.settings,
                platform.workspace,
                platform.aws,
                operation=operation,
                caller=platform.identity.arn,
                waiting=Waiting(cancel, watch.note),
            )

        made = AccessRun(
            platform, platform.access_stack(turn), run.cancel, datetime.now(UTC), Lines(options.ui)
        )
        with platform.workspace.exclusive(Waiting(run.cancel, options.ui.info)):
            yield made


def gather(run: AccessRun, *, only: Collection[str] = (), record: Record | None = None) -> tuple[Row, ...]:
    """What the record, the cluster and the local file say, of everybody or of `only` these; the stack is open.

    Whether principals were made anew is asked of IAM as far as it may be asked.
    """
    from cali_infra.core.access_list import Sources, rows

    platform = run.platform
    cluster = (
        run.stack.entries(only) if only else platform.aws.access_entries(platform.settings.cluster_name) or ()
    )
    asked = [entry.principal_arn for entry in cluster if entry.kind == "STANDARD"]
    sources = Sources(
        record=record if record is not None else run.stack.record(),
        cluster=cluster,
        local=platform.inputs.principals(),
        creator=run.creator(),
        born=platform.aws.principals(asked, account=platform.identity.account),
        search_users=_search_users(run),
    )
    found = rows(sources, run.now)
    return tuple(row for row in found if not only or row.arn in only)


def forget_search_users(platform: Platform, arns: Collection[str]) -> tuple[str, ...]:
    """Delete the users of the domain that belong to these principals; returns their names."""
    users = platform.search_users() if arns else None
    return users.revoke(arns) if users else ()


def _search_users(run: AccessRun) -> dict[str, str]:
    """The teammates' users of the domain, as far as it answers."""
    from cali_infra.errors import CaliError

    try:
        users = run.platform.search_users()
        return users.by_principal() if users else {}
    except CaliError as error:
        run.watch.warn(f"who has a user of the domain is not known: {error.message}")
        return {}


def document(found: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as the JSON has them."""
    return [row.document() for row in found]


def show(ui: UI, found: Sequence[Row], *, title: str = "", as_data: bool = True) -> None:
    """The rows as a table, and below it what does not fit."""
    columns = ("name", "level", "namespaces", "until", "status", "granted", "principal")
    ui.table(
        columns,
        [
            (
                row.name,
                row.level,
                ", ".join(row.namespaces) or "all",
                row.until or "",
                row.status.value,
                " by ".join(filter(None, (row.granted_at, _who(row.granted_by)))),
                row.arn,
            )
            for row in found
        ],
        title=title,
        as_data=as_data,
    )
    for row in found:
        for note in row.notes:
            ui.info(f"{row.name}: {note}")


def _who(arn: str) -> str:
    return arn.split(":", 5)[-1] if arn else ""
