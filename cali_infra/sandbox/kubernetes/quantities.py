"""Amounts of a resource, such as 500m, 1.5Gi or 1e3: what they come to, and how the API server spells them.

Source: k8s.io/apimachinery/pkg/api/resource, and what a real server answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

_BINARY: Mapping[str, int] = {
    "Ei": 2**60, "Pi": 2**50, "Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10,
}  # fmt: skip
_DECIMAL: Mapping[str, Decimal] = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
}  # fmt: skip
_PARTS = re.compile(r"([+-]?[0-9.]+)([KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]+)\Z")
_MILLI = Decimal("0.001")


def value(text: object) -> Decimal:
    """The amount: `500m` is 0.5, `1Ki` is 1024. Raises ValueError."""
    match = _PARTS.match(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix = match.groups()
    if suffix in _BINARY:
        return Decimal(number) * _BINARY[suffix]
    if suffix in _DECIMAL:
        return Decimal(number) * _DECIMAL[suffix]
    return Decimal(number + suffix)


def canonical(text: str) -> str:
    """The spelling in which the server stores it: a whole number with the biggest suffix that leaves it whole.

    Nothing is kept below a thousandth. A suffix keeps its family, an exponent stays as it is.
    """
    match = _PARTS.match(text)
    if match is None or (match.group(2)[:1] in ("e", "E") and match.group(2) not in ("E", "Ei")):
        return text
    amount = value(text).quantize(_MILLI, rounding=ROUND_CEILING)
    if amount == 0:
        return "0"
    if amount != amount.to_integral_value():
        return f"{int(amount / _MILLI)}m"
    whole = int(amount)
    if match.group(2) in _BINARY and abs(whole) >= 1024:
        for suffix, size in _BINARY.items():
            if whole % size == 0:
                return f"{whole // size}{suffix}"
        return str(whole)
    suffixes = iter(("k", "M", "G", "T", "P", "E"))
    spelled = ""
    while whole % 1000 == 0 and (bigger := next(suffixes, None)):
        whole, spelled = whole // 1000, bigger
    return f"{whole}{spelled}"
