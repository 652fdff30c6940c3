r"""Compiles the patterns of Fluent Bit's Onigmo with the package `regex`.

Onigmo's syntax is Ruby's: `^` and `$` stand at lines, `\w`, `\d` and `\s` mean ASCII, `\g<name>` repeats a group.
What the two engines read differently is refused.
"""

from __future__ import annotations

import re

import regex

# Escaped letters with one meaning in both.
_SAME = frozenset("wWdDsStnrfv")
_GROUP = re.compile(r"\\g<([A-Za-z_]\w*)>")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OTHER_SETS = re.compile(r"(?<!\\)(?:&&|\[\[)")


def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern, `/.../` taken off; it is searched for, as Fluent Bit does. Raises ValueError."""
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "/":
        pattern = pattern[1:-1]
    elif pattern.startswith("/"):
        raise ValueError("options behind a pattern are not modelled")
    ruby = _GROUP.sub(r"(?&\1)", pattern)
    for found in _ESCAPE.finditer(ruby):
        if found[1].isalnum() and found[1] not in _SAME:
            raise ValueError(f"{found[0]} in a pattern is not modelled")
    if _OTHER_SETS.search(ruby):
        raise ValueError("sets within sets in a pattern are not modelled")
    try:
        return regex.compile(ruby, regex.ASCII | regex.MULTILINE | regex.VERSION0)
    except regex.error as error:
        raise ValueError(f"no pattern: {error}") from error
