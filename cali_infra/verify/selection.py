"""Which checks a run has: by name, by option, by stage; and what those need.

A name is a check's id, the beginning of one up to a dot (`eks`, `search.auth`), or a family.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cali_infra.core import stages
from cali_infra.errors import UsageError
from cali_infra.verify.checks import Check


def choose(
    checks: Sequence[Check], names: Sequence[str] = (), options: Collection[str] = ()
) -> tuple[Check, ...]:
    """The checks of these names and what they need, in their own order; without names all but those of options
    that were not given.

    Raises UsageError for a name that fits none, with the nearest one that does.
    """
    for name in names:
        if not any(_fits(name, check) for check in checks):
            raise _unknown(name, checks)
    if names:
        chosen = [check for check in checks if any(_fits(name, check) for name in names)]
        chosen += [check for check in checks if check.option in options and check.option]
    else:
        chosen = [check for check in checks if not check.option or check.option in options]
    return with_needs(checks, chosen)


def quick(checks: Sequence[Check], stages: Collection[str]) -> tuple[Check, ...]:
    """What `up` ends with: the quick checks of the stages that it went over, and what they need."""
    chosen = [check for check in checks if check.quick and not check.option and check.stage in ("", *stages)]
    return with_needs(checks, chosen)


def with_needs(checks: Sequence[Check], chosen: Iterable[Check]) -> tuple[Check, ...]:
    """These checks and all that they need, directly or not, in the order of `checks`."""
    by_id = {check.id: check for check in checks}
    wanted = stages.with_needs([check.id for check in chosen], lambda name: by_id[name].needs)
    return tuple(check for check in checks if check.id in wanted)


def _fits(name: str, check: Check) -> bool:
    return check.id == name or check.id.startswith(f"{name}.") or check.family.value == name


def _unknown(name: str, checks: Sequence[Check]) -> UsageError:
    from difflib import get_close_matches

    known: dict[str, None] = {}
    for check in checks:
        parts = check.id.split(".")
        known |= dict.fromkeys(".".join(parts[:length]) for length in range(1, len(parts) + 1))
        known[check.family.value] = None
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    groups = dict.fromkeys([check.id.split(".")[0] for check in checks])
    return UsageError(
        f"there is no check {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        remedy=f"a part: {', '.join(groups)}; every check is in docs/verify.md",
    )
