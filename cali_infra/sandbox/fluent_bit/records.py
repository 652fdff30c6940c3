"""A record on its way through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

# A key may stand more than once in a record; the last one counts when it is written.
Fields = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Record:
    """One record; `at` is its time in nanoseconds since 1970."""

    at: int
    fields: Fields

    def get(self, key: str) -> Any:
        """The value of the first field of that name, or None."""
        return next((value for name, value in self.fields if name == key), None)

    def having(self, fields: Fields) -> Record:
        """The same time with these fields."""
        return replace(self, fields=fields)
