"""What a check is, and what comes of it.

A check is data with one function: who it is, what it proves, what has to hold before it is worth asking, and how
long it may take. Running them is `runner.py`'s, what they share `context.py`'s; each family has a file of its own,
and `families.py` lists them all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cali_infra.verify.context import Context

# Seconds that a check may take: some questions over a slow line, with a retry or two.
TIMEOUT = 30.0


class Status(Enum):
    """How a check ended. A warning is no failure, unless warnings are to count; what is skipped proves nothing."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Family(Enum):
    """The families, in the order in which they are shown."""

    AWS = "aws"
    KUBERNETES = "kubernetes"
    OPENSEARCH = "opensearch"
    E2E = "e2e"
    DEEP = "deep"

    @property
    def title(self) -> str:
        """Its name for a person."""
        return _TITLES[self.value]


_TITLES = {
    "aws": "AWS",
    "kubernetes": "Kubernetes",
    "opensearch": "OpenSearch",
    "e2e": "End to end",
    "deep": "Deep",
}


@dataclass(frozen=True)
class Result:
    """What came of a check: one sentence of `detail`, and the `remedy`, what to paste into a shell. What a command
    alone does not say stands above it behind a `#`.

    `seconds` is set by the runner, and `left` where something that the check made could not be put down.
    `measurements` are seconds too, by what took them: a round trip, a leg of a
    journey. `cause` is the id of the check that a skipped one was skipped for.
    """

    status: Status
    detail: str
    remedy: str = ""
    cause: str = ""
    seconds: float = 0.0
    measurements: Mapping[str, float] = field(default_factory=dict)
    left: bool = False


def passed(detail: str, measurements: Mapping[str, float] | None = None) -> Result:
    """It holds."""
    return Result(Status.PASS, detail, measurements=measurements or {})


def warned(detail: str, remedy: str = "", measurements: Mapping[str, float] | None = None) -> Result:
    """It holds, and somebody should look at it."""
    return Result(Status.WARN, detail, remedy, measurements=measurements or {})


def failed(detail: str, remedy: str = "", measurements: Mapping[str, float] | None = None) -> Result:
    """It does not hold. Without a remedy the check's own is shown."""
    return Result(Status.FAIL, detail, remedy, measurements=measurements or {})


def skipped(detail: str, cause: str = "") -> Result:
    """There is nothing to look at, and this is why."""
    return Result(Status.SKIP, detail, cause=cause)


def few(items: Sequence[str], most: int = 3) -> str:
    """The first ones in words, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


@dataclass(frozen=True)
class Check:
    """One check.

    `id` begins with what it is about, `eks.cluster-active`; `needs` are the ids of those that have to pass before.
    `proves` and `remedy` are for a person: what holds when it passes, and what to type when it fails and the result
    knows nothing better. `timeout` is in seconds; `grace` is how many more it may take to put down what it holds
    when it is interrupted or late. `stage` is the stage of the graph that it speaks of, if one.

    One that is not `quick` is left out of what `up` ends with. One with an `option` (`deep`) is, too: it runs only
    when that is given or when it is named; one with a `question` only when a person says yes to it.
    """

    id: str
    title: str
    family: Family
    ask: Callable[[Context], Result]
    proves: str
    remedy: str
    needs: tuple[str, ...] = ()
    stage: str = ""
    timeout: float = TIMEOUT
    grace: float = 0.0
    quick: bool = True
    option: str = ""
    question: str = ""


def check(
    id: str,  # noqa: A002
    title: str,
    *,
    family: Family,
    remedy: str,
    needs: tuple[str, ...] = (),
    stage: str = "",
    timeout: float = TIMEOUT,
    grace: float = 0.0,
    quick: bool = True,
    option: str = "",
    question: str = "",
) -> Callable[[Callable[[Context], Result]], Check]:
    """Make a function a check; its docstring is what the check proves."""

    def make(ask: Callable[[Context], Result]) -> Check:
        proves = " ".join((inspect.getdoc(ask) or "").split())
        return Check(
            id=id,
            title=title,
            family=family,
            ask=ask,
            proves=proves,
            remedy=remedy,
            needs=needs,
            stage=stage,
            timeout=timeout,
            grace=grace,
            quick=quick,
            option=option,
            question=question,
        )

    return make
