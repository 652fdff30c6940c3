"""Durations as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cali_infra.core.durations import parse
from cali_infra.errors import UsageError


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30d", timedelta(days=30)),
        ("1w", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("1h30m", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        (" 15M ", timedelta(minutes=15)),
    ],
)
def test_a_duration(text: str, length: timedelta) -> None:
    assert parse(text, "--for") == length


@pytest.mark.parametrize(
    "text", ["", "30", "d", "30 d", "-1d", "1.5h", "0d", "1d2d", "3y", "forever", "9" * 30 + "d", "٣d"]
)
def test_what_is_none_is_told_with_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--for") as caught:
        parse(text, "--for")
    assert "30d" in caught.value.remedy
