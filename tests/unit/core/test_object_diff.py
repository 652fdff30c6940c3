"""What a plan shows of an object that differs."""

from __future__ import annotations

from typing import Any

import pytest

from cali_infra.core.object_diff import differences


def shown(old: Any, new: Any, kind: str = "ConfigMap") -> list[str]:
    live, wanted = (
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "data": {"a.yaml": value}}
        for value in (old, new)
    )
    return list(differences(live, wanted))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1", "2", '"1" -> "2"'),
        ("a\n  b\nc\n", "a\n  d\nc\n", 'line 2: "b" -> "d"'),
        ("a\nc\n", "a\n  b\nc\n", 'line 2: (none) -> "b"'),
        ("a\nb\nc\n", "a\nc\n", 'line 2: "b" -> (none)'),
        ("a\nb\nc\nd\n", "x\nb\ny\nz\n", 'line 1: "a" -> "x", and 2 more'),
        ("a\n  b\n", "a\n    b\n", 'line 2: "  b" -> "    b"'),
        (
            "a\n" + "x" * 80 + "1\n",
            "a\n" + "x" * 80 + "2\n",
            f'line 2: "...{"x" * 15}1" -> "...{"x" * 15}2"',
        ),
        ("a\nb", "a\nb\n", "the ends of its lines"),
        ("one", "a\nb\n", '"one" -> "a\\nb\\n"'),
    ],
)
def test_of_a_text_of_many_lines_the_first_one_that_differs(old: str, new: str, said: str) -> None:
    assert shown(old, new) == [f"data[a.yaml]: {said}"]


def test_a_secret_s_value_is_never_shown() -> None:
    assert shown("b25l", "dHdv", kind="Secret") == ["data[a.yaml]: changed"]


def test_what_is_the_same_is_no_difference() -> None:
    assert shown("a\nb\n", "a\nb\n") == []
