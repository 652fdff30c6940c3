"""Amounts as the API server spells them; every line is what a real one (1.36) answered."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cali_infra.sandbox.kubernetes.quantities import canonical, value


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1000k", "1M"),
        ("123456789", "123456789"),
        ("0.5k", "500"),
        ("1n", "1m"),
        ("0m", "0"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        ("1025Mi", "1025Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.3Gi", "322122547200m"),
        ("1000Gi", "1000Gi"),
        ("1e3", "1e3"),
        ("-1", "-1"),
    ],
)
def test_an_amount_is_stored_in_one_spelling(written: str, stored: str) -> None:
    assert canonical(written) == stored
    assert canonical(stored) == stored


@pytest.mark.parametrize(
    ("text", "amount"), [("500m", "0.5"), ("1Ki", "1024"), ("2E", "2e18"), ("1e3", "1000"), (2, "2")]
)
def test_an_amount_is_a_number(text: object, amount: str) -> None:
    assert value(text) == Decimal(amount)


def test_what_is_no_amount_is_refused() -> None:
    with pytest.raises(ValueError, match="'lots' is no quantity"):
        value("lots")
