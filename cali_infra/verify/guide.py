"""`docs/verify.md`, made from the checks themselves so that it cannot go stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cali_infra.verify.checks import Check, Family

_HEAD = """\
# Every check of `cali verify`

<!-- Made from the code by `make guide`; change the checks instead. -->

`cali verify` runs all of them side by side, each as soon as what it needs has passed. One whose ground is broken is
skipped with the cause, so that one dead cluster is one failure. A name, the beginning of one up to a dot (`eks`,
`search.auth`) or a family (`aws`) runs a part, and what that needs. A failure says its cause and a command to copy;
here is what each one proves, and where to begin.
"""


def render(checks: Sequence[Check]) -> str:
    """The whole document."""
    return "\n".join([_HEAD, *_families(checks)]).rstrip() + "\n"


def _families(checks: Sequence[Check]) -> Iterator[str]:
    for family in Family:
        members = [check for check in checks if check.family is family]
        if members:
            yield f"## {family.title}\n"
            for check in members:
                yield from _check(check)


def _check(check: Check) -> Iterator[str]:
    yield f"### {check.id}\n"
    yield f"**{check.title}.** {check.proves}\n"
    yield f"When it fails:\n\n```console\n{check.remedy}\n```\n"
    facts = []
    if check.needs:
        facts.append("Needs " + ", ".join(f"`{need}`" for need in check.needs))
    if check.option:
        facts.append(f"Runs with `--{check.option}` only")
    elif not check.quick:
        facts.append("Not in the quick part that `up` ends with")
    if check.question:
        facts.append(f"Asks first: {check.question}")
    facts.append(f"Given up after {check.timeout:g} seconds")
    yield f"{'. '.join(facts)}.\n"
