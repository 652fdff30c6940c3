"""IAM policies: whether their statements allow an action on a resource to a principal.

It owns the reading of policy documents. Actions and resources with wildcards and the everyday conditions
are modelled; what is not, raises NotImplementedError as soon as an answer would hang on it, so that nothing
is allowed or denied by a guess. Source: IAM user guide, "Policy evaluation logic".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

# What is known of a request by condition key, in small letters; None is a key that the request does not have.
Context = Mapping[str, str | None]


class Known(dict[str, str | None]):
    """What is known of a request by condition key, in small letters; every other key is one that it lacks."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> None:
        return None


class Verdict(Enum):
    """What policies say of a request; `SILENT`: none of them speaks of it."""

    ALLOW = "allow"
    DENY = "deny"
    SILENT = "silent"


@dataclass(frozen=True)
class Statement:
    """One statement as it is written."""

    raw: Mapping[str, Any]

    @property
    def allows(self) -> bool:
        """Whether it allows; else it denies."""
        return self.raw.get("Effect") == "Allow"

    def names(self, action: str, resource: str | None) -> bool:
        """Whether it is about this action on this resource; None leaves the resource out, as trust does."""
        if not self._among("Action", action, _matches_action):
            return False
        return resource is None or self._among("Resource", resource, matches)

    def principals(self, kind: str) -> list[str]:
        """Whom it names of a kind: `AWS`, where `*` alone is everyone, or `Service`."""
        if "NotPrincipal" in self.raw:
            raise NotImplementedError("NotPrincipal in a policy")
        named = self.raw.get("Principal", {})
        named = {"AWS": named} if isinstance(named, str) else named
        return [str(each) for each in many(named.get(kind))]

    def holds(self, context: Context) -> bool:
        """Whether its conditions are met."""
        return all(
            _met(operator, key, many(values), context)
            for operator, tests in self.raw.get("Condition", {}).items()
            for key, values in tests.items()
        )

    def _among(self, element: str, value: str, match: Callable[[str, str], bool]) -> bool:
        if f"Not{element}" in self.raw:
            return not any(match(str(each), value) for each in many(self.raw[f"Not{element}"]))
        return any(match(str(each), value) for each in many(self.raw.get(element)))


def statements(document: str) -> list[Statement]:
    """The statements of a policy document, which IAM hands out as JSON, URL-encoded or not."""
    text = document if document.lstrip().startswith("{") else unquote(document)
    return [Statement(each) for each in many(json.loads(text).get("Statement"))]


def permitted(documents: Iterable[str], action: str, resource: str | None, context: Context) -> Verdict:
    """What the policies of a principal say of an action of its own on a resource; None stands for any."""
    return verdict(
        [
            statement
            for document in documents
            for statement in statements(document)
            if statement.names(action, resource)
        ],
        context,
    )


def service_may(document: str, service: str, actions: Sequence[str], context: Context) -> bool:
    """Whether a trust policy lets a service of AWS do every one of `actions`."""
    found = [each for each in statements(document) if service in each.principals("Service")]
    return all(
        verdict([each for each in found if each.names(action, None)], context) is Verdict.ALLOW
        for action in actions
    )


def verdict(found: Iterable[Statement], context: Context) -> Verdict:
    """What statements that are about a request say of it together: a denial outweighs all else."""
    held = [statement for statement in found if statement.holds(context)]
    if any(not statement.allows for statement in held):
        return Verdict.DENY
    return Verdict.ALLOW if held else Verdict.SILENT


def matches(pattern: str, value: str) -> bool:
    """Whether a value fits a pattern in which `*` stands for any characters and `?` for one."""
    if "${" in pattern:
        raise NotImplementedError(f"the variable in {pattern!r} of a policy")
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, value, re.DOTALL) is not None


def many(value: Any) -> list[Any]:
    """A policy's element as a list: one alone may stand without brackets."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _matches_action(pattern: str, action: str) -> bool:
    return matches(pattern.lower(), action.lower())


def _matches_arn(pattern: str, arn: str) -> bool:
    """Part by part: a `*` does not reach over a colon, but in the last part."""
    wanted, given = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == len(given) and all(map(matches, wanted, given))


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": str.__eq__,
    "StringLike": matches,
    "ArnEquals": _matches_arn,
    "ArnLike": _matches_arn,
}


def _met(operator: str, key: str, values: Sequence[Any], context: Context) -> bool:
    if operator not in _OPERATORS or key.lower() not in context:
        raise NotImplementedError(f"the condition {operator} on {key} in a policy")
    given = context[key.lower()]
    return given is not None and any(_OPERATORS[operator](str(each), given) for each in values)
