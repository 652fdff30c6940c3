"""The proof of a grant: what EKS shows afterwards, and a call that the cluster answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.core.access_change import has_policy
from cali_infra.errors import AwsError, CaliError, OperationError, UnauthorizedError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.core.access import Entry

# For so many seconds a call with a new entry is tried: it takes a while to work.
PATIENCE = 60.0
_PAUSE = 2.0


@dataclass(frozen=True)
class Proof:
    """What was seen: `works` is whether an authenticated call worked, None where none could be made as this
    principal; `detail` says it for a person."""

    arn: str
    works: bool | None
    detail: str


def prove(
    entries: Sequence[Entry],
    aws: Aws,
    cluster: str,
    *,
    caller: str,
    call: Callable[[Aws], str],
    cancel: Event,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Proof, ...]:
    """Read each entry and its association back, and call the cluster as the principal where the caller can.

    `caller` is the caller's own principal, `call` makes an authenticated call with a door's keys and returns whom
    the cluster takes that for. Raises OperationError when EKS does not show what was granted.
    """
    from concurrent.futures import ThreadPoolExecutor

    def one(entry: Entry) -> Proof:
        found = aws.access_entry(cluster, entry.arn)
        if found is None or not has_policy(found.policies, entry):
            raise OperationError(
                f"{entry.arn}: EKS does not show the {'policy' if found else 'entry'} that was just granted",
                remedy="somebody may have taken it away in the meantime: look with `cali list-access`",
            )
        try:
            door = aws if entry.arn == caller else _as_role(aws, entry.arn)
        except AwsError as error:
            return Proof(entry.arn, None, f"not tried as {entry.name}: {error.message}")
        if door is None:
            return Proof(
                entry.arn, None, f"not tried as {entry.name}: only the principal itself has its keys"
            )
        return _called(entry, door, call, cancel, clock)

    with ThreadPoolExecutor(max(1, min(8, len(entries))), thread_name_prefix="proof") as pool:
        return tuple(pool.map(one, entries))


def _as_role(aws: Aws, arn: str) -> Aws | None:
    """This door as the role; None for a user, whom nobody can assume, and for a role that the caller may not."""
    return aws.assume_role(arn, "cali-proof") if ":role/" in arn else None


def _called(
    entry: Entry, door: Aws, call: Callable[[Aws], str], cancel: Event, clock: Callable[[], float]
) -> Proof:
    until = clock() + PATIENCE
    while True:
        try:
            return Proof(entry.arn, True, f"the cluster answers it, as {call(door)}")
        except UnauthorizedError as error:
            if clock() > until or cancel.wait(_PAUSE):
                return Proof(entry.arn, False, error.message)
        except CaliError as error:
            # The grant stands; that the endpoint is not open to this laptop, say, is another matter.
            return Proof(entry.arn, None, f"the cluster was not asked: {error.message}")
