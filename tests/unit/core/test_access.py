"""The union of the record and the local secrets: nobody is lost, and nobody who was revoked comes back."""

from __future__ import annotations

from datetime import UTC, datetime

from cali_infra.core.access import EMPTY, Entry, Record, Revocation, from_output, merge

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATOR = "arn:aws:iam::123456789012:user/lead"
JIN = Entry("arn:aws:iam::123456789012:user/jin", "Jin", "admin")
MINA = Entry(
    "arn:aws:iam::123456789012:user/mina", "Mina", "view", ("airflow",), None, CREATOR, "2026-02-01T00:00:00Z"
)


def test_a_local_principal_joins_the_record_with_who_granted_it_and_when() -> None:
    found = merge(EMPTY, [JIN], creator=CREATOR, caller="arn:me", now=NOW)

    entry = found.record.entries[JIN.arn]
    assert (entry.granted_by, entry.granted_at) == ("arn:me", "2026-03-01T12:00:00Z")
    assert found.warnings == ()


def test_whoever_is_in_the_record_stays_though_no_local_file_lists_them() -> None:
    found = merge(Record({MINA.arn: MINA}, {}), [JIN], creator=CREATOR, caller="arn:me", now=NOW)

    assert list(found.record.entries) == [JIN.arn, MINA.arn]
    assert found.record.entries[MINA.arn] == MINA


def test_an_old_local_line_does_not_undo_what_the_record_says() -> None:
    stale = Entry(MINA.arn, "Mina", "admin")

    found = merge(Record({MINA.arn: MINA}, {}), [stale], creator=CREATOR, caller="arn:me", now=NOW)

    assert found.record.entries[MINA.arn] == MINA


def test_a_revoked_principal_stays_out_and_the_line_is_named() -> None:
    gone = Revocation(JIN.arn, "Jin", "2026-02-02T00:00:00Z", CREATOR)

    found = merge(Record({}, {JIN.arn: gone}), [JIN], creator=CREATOR, caller="arn:me", now=NOW)

    assert found.record == Record({}, {JIN.arn: gone})
    assert JIN.arn in found.warnings[0]
    assert "stays out" in found.warnings[0]


def test_the_creator_is_never_managed() -> None:
    lead = Entry(CREATOR, "Lead", "admin")

    found = merge(EMPTY, [lead], creator=CREATOR, caller=CREATOR, now=NOW)

    assert found.record.entries == {}
    assert "created the cluster" in found.warnings[0]


def test_access_that_has_ended_is_not_granted() -> None:
    ended = Entry(JIN.arn, "Jin", "admin", (), "2026-03-01T12:00:00Z")

    found = merge(EMPTY, [ended], creator=CREATOR, caller="arn:me", now=NOW)

    assert found.record.entries == {}
    assert "ended on 2026-03-01T12:00:00Z" in found.warnings[0]


def test_the_record_survives_its_way_through_the_state() -> None:
    gone = Revocation(JIN.arn, "Jin", "2026-02-02T00:00:00Z", CREATOR)

    output = {"principals": {MINA.arn: MINA.variable()}, "revoked": {JIN.arn: gone.variable()}}

    assert from_output(output) == Record({MINA.arn: MINA}, {JIN.arn: gone})
    assert from_output(None) == EMPTY
