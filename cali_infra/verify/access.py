"""Who has access: the record against the cluster's access entries. It is of the family AWS.

What does not fit is found by `core/access_list.py`, which `list-access` shows; here it is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from cali_infra.core.access_list import Status as Standing
from cali_infra.verify.checks import Check, Family, Result, check, failed, passed, warned
from cali_infra.verify.context import Context

if TYPE_CHECKING:
    from cali_infra.core.access_list import Row


def rows(context: Context) -> tuple[Row, ...]:
    """Everybody, with what does not fit."""

    def ask() -> tuple[Row, ...]:
        from cali_infra.core import access, access_list

        subject = context.subject
        found = subject.aws.access_entries(subject.settings.cluster_name) or ()
        people = [entry.principal_arn for entry in found if entry.kind == "STANDARD"]
        record = access.from_output(context.stack(access.STACK).outputs().get("record"))
        sources = access_list.Sources(
            record=record,
            cluster=found,
            local=subject.principals(),
            creator=context.output("eks", "creator_arn"),
            born=subject.aws.principals(people),
            search_users={},
        )
        return access_list.rows(sources, context.now().astimezone(UTC))

    return context.fact("who has access", ask)


@check(
    "access.entries",
    "Everybody on record has an access entry with the right policy",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="access",
    remedy="cali up access",
)
def entries(context: Context) -> Result:
    """Each principal of the record has its access entry, and with that exactly the policy and the namespaces that
    its level gives: an entry without a policy lets its principal in and allows nothing."""
    on_record = [row for row in rows(context) if row.source == "state"]
    broken = [row for row in on_record if row.status in (Standing.MISSING, Standing.MISSING_POLICY)]
    if broken:
        return failed(_said(broken))
    strange = [row for row in on_record if row.status is Standing.ACTIVE and row.notes]
    if strange:
        return warned(_said(strange), "cali list-access")
    waiting = [row for row in rows(context) if row.status is Standing.PENDING]
    if waiting:
        return warned(_said(waiting))
    active = [row.name for row in on_record if row.status is Standing.ACTIVE]
    return passed(f"{len(active)} principals: {', '.join(active)}" if active else "nobody is on record")


@check(
    "access.strangers",
    "Nobody has access who is not on record",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="access",
    remedy="cali list-access",
)
def strangers(context: Context) -> Result:
    """Every access entry of a person is on record, but for the creator's own. One that was made by hand is a
    warning; one whose access was taken away, and who has it again, is a failure."""
    creator = context.output("eks", "creator_arn")
    unknown = [row for row in rows(context) if row.status is Standing.UNMANAGED and row.arn != creator]
    revoked = _record_of_revoked(context)
    back = [row for row in unknown if row.arn in revoked]
    if back:
        return failed(_said(back), f"cali revoke-access {back[0].arn}")
    if unknown:
        arn = unknown[0].arn
        return warned(_said(unknown), f"# or adopt it: cali grant-access {arn}\ncali revoke-access {arn}")
    return passed("nobody")


@check(
    "access.expired",
    "No access outlives its time",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="access",
    remedy="cali revoke-access --expired",
)
def expired(context: Context) -> Result:
    """Whose time is over has no access entry any more. AWS takes it away by itself, by a schedule."""
    over = [row for row in rows(context) if row.status is Standing.EXPIRED and row.source == "state"]
    left = [row for row in over if row.in_cluster]
    if left:
        return failed("; ".join(f"{row.name} ({row.arn}) had access until {row.until}" for row in left))
    return passed(f"{len(over)} are over, and gone" if over else "none is over")


def _record_of_revoked(context: Context) -> frozenset[str]:
    from cali_infra.core import access

    return frozenset(access.from_output(context.stack(access.STACK).outputs().get("record")).revoked)


def _said(found: Sequence[Row], most: int = 3) -> str:
    """Each of them with what does not fit; of many, the first ones."""
    shown = [f"{row.name} ({row.arn}): {'; '.join(row.notes)}" for row in found[:most]]
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(shown) + more


CHECKS: tuple[Check, ...] = (entries, strangers, expired)
