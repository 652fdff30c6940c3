"""Twenty operators at once, three times over: `make faults`. Six of them are in test_access.py."""

from __future__ import annotations

import random

import pytest

from .conftest import Project
from .test_access import Team, two_laptops, user

pytestmark = [pytest.mark.sandbox, pytest.mark.faults]


@pytest.fixture(scope="module")
def team(project: Project) -> Team:
    return two_laptops(project)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_at_once_end_with_exactly_the_right_set(team: Team, seed: int) -> None:
    """Ten come in, six go, and four whom nobody touches stay; one `up` runs in the middle of it."""
    chance = random.Random(seed)
    there = team.create(*(f"r{seed}-old{number}" for number in range(10)))
    ran = team.lead.cali("grant-access", *there, "--level", "view", "--yes", timeout=600)
    assert ran.code == 0, ran.err
    before = set(team.record()["principals"])
    new = team.create(*(f"r{seed}-new{number}" for number in range(13)))
    gone = there[:6]
    work = [("grant-access", arn) for arn in new] + [("revoke-access", arn) for arn in gone]
    chance.shuffle(work)
    surroundings = {"CALI_SANDBOX_DIR": str(team.lead.folder)}

    running = [
        (team.lead if chance.random() < 0.5 else team.other).start(command, arn, "--yes", **surroundings)
        for command, arn in work
    ]
    running.append(team.other.start("up", "access", "--yes", **surroundings))
    ended = [team.lead.finish(process, timeout=1800) for process in running]

    # `up` refuses a workspace in which another cali works; the others wait for each other.
    assert [run.code for run in ended[:-1]] == [0] * len(work), "\n".join(run.err for run in ended)
    assert ended[-1].code in (0, 2), ended[-1].err
    wanted = (before | set(new)) - set(gone)
    assert set(team.record()["principals"]) == wanted
    assert {arn for arn in team.entries() if ":user/r" in arn} == {arn for arn in wanted if ":user/r" in arn}
    assert {user(f"r{seed}-old{number}") for number in range(6)} <= set(team.record()["revoked"])
