"""Which checks a run has."""

from __future__ import annotations

import pytest

from cali_infra.errors import UsageError
from cali_infra.verify.checks import Check, Family, passed
from cali_infra.verify.selection import choose, quick


def make(name: str, *needs: str, family: Family = Family.AWS, stage: str = "", **more: object) -> Check:
    return Check(name, name, family, lambda c: passed(""), "", "", needs, stage, **more)  # type: ignore[arg-type]


CHECKS = (
    make("aws.identity"),
    make("eks.cluster-active", "aws.identity", stage="eks"),
    make("eks.version", "eks.cluster-active", stage="eks"),
    make("drift.eks", "aws.identity", stage="eks", quick=False),
    make("search.domain-active", "aws.identity", stage="search"),
    make("search.auth", "search.domain-active", family=Family.OPENSEARCH, stage="search"),
    make("search.auth.no-password", "search.auth", family=Family.OPENSEARCH, stage="search"),
    make("search.authority", family=Family.OPENSEARCH, stage="search"),
    make("deep.volume", "eks.cluster-active", family=Family.KUBERNETES, option="deep"),
)


def names(checks: tuple[Check, ...]) -> list[str]:
    return [check.id for check in checks]


def test_without_a_name_it_is_all_but_what_has_to_be_asked_for() -> None:
    everything = [check.id for check in CHECKS]
    assert names(choose(CHECKS)) == everything[:-1]
    assert names(choose(CHECKS, options=("deep",))) == everything


def test_a_part_comes_with_what_it_needs() -> None:
    assert names(choose(CHECKS, ["eks.version"])) == ["aws.identity", "eks.cluster-active", "eks.version"]
    assert names(choose(CHECKS, ["eks"])) == ["aws.identity", "eks.cluster-active", "eks.version"]
    assert names(choose(CHECKS, ["search.auth"])) == [
        "aws.identity",
        "search.domain-active",
        "search.auth",
        "search.auth.no-password",
    ]


def test_a_family_is_a_part_too() -> None:
    assert "search.authority" in names(choose(CHECKS, ["opensearch"]))
    assert "eks.version" not in names(choose(CHECKS, ["opensearch"]))


def test_what_is_named_needs_no_option() -> None:
    assert names(choose(CHECKS, ["deep.volume"]))[-1] == "deep.volume"


def test_an_option_adds_to_what_is_named() -> None:
    assert names(choose(CHECKS, ["search.authority"], ["deep"])) == [
        "aws.identity",
        "eks.cluster-active",
        "search.authority",
        "deep.volume",
    ]


@pytest.mark.parametrize(
    ("name", "near"),
    [("esk", "eks"), ("search.auht", "search.auth"), ("eks.cluster", "eks.cluster-active"), ("qqqq", "")],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose(CHECKS, ["eks", name])
    assert name in caught.value.message
    assert (f"did you mean {near!r}" in caught.value.message) == bool(near)
    assert "docs/verify.md" in caught.value.remedy


def test_up_ends_with_what_is_quick_and_of_its_stages() -> None:
    assert names(quick(CHECKS, ["eks"])) == ["aws.identity", "eks.cluster-active", "eks.version"]
    assert "drift.eks" not in names(quick(CHECKS, ["eks", "search"]))
    assert "deep.volume" not in names(quick(CHECKS, ["eks", "search"]))
