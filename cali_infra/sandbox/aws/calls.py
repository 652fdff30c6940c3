"""A call of a service that is modelled here, and the table by which a service finds what answers it.

It owns the rule that nothing is half-modelled: an operation without an entry, and a parameter that its
entry does not list, is refused by name instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.aws import errors
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import Principal

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call: the operation, its checked parameters, and by whom it is made in which region."""

    operation: str
    parameters: Mapping[str, Any]
    region: str
    principal: Principal

    @property
    def account(self) -> str:
        """The caller's account."""
        return self.principal.account

    def __getitem__(self, name: str) -> Any:
        """A parameter that the operation cannot do without."""
        return self.parameters[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter that may be left out; null counts as left out."""
        value = self.parameters.get(name)
        return default if value is None else value


@dataclass(frozen=True)
class Operation:
    """What answers an operation, and the parameters that it models."""

    handle: Callable[[Call], Result]
    models: frozenset[str]


def operation(handle: Callable[[Call], Result], models: str = "") -> Operation:
    """An Operation; `models` are the parameters' names, separated by blanks."""
    # Tokens that make a repeated call the same one, and pages, are common to all.
    common = {"clientRequestToken", "maxResults", "nextToken", "clusterName", "name"}
    return Operation(handle, frozenset(models.split()) | common)


def given(value: Any) -> bool:
    """Whether a parameter says anything: SDKs also send empty structures and switches that are off."""
    if isinstance(value, Mapping):
        return any(given(each) for each in value.values())
    return value is not None and value is not False and value != "" and value != []


class Table:
    """The operations of a service that are modelled here."""

    def __init__(self, service: str, operations: Mapping[str, Operation]) -> None:
        self.service = service
        self._operations = dict(operations)

    def answer(self, call: Call) -> Result:
        """Answer a call; raises ServiceError."""
        found = self._operations.get(call.operation)
        if found is None:
            raise not_modelled(self.service, call.operation)
        foreign = [k for k, v in call.parameters.items() if k not in found.models and given(v)]
        if foreign:
            raise not_modelled(self.service, f"{', '.join(sorted(foreign))} of {call.operation}")
        return found.handle(call)


class Repeats:
    """The answers to calls that carried a token: the same call, sent again because its answer was lost on the way,
    gets the same one and changes nothing more. Source: the EKS API, `clientRequestToken`.
    """

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], tuple[Call, Result]] = {}

    def answer(self, call: Call, handle: Callable[[Call], Result]) -> Result:
        """The answer that was given before, or the one that `handle` gives; raises ServiceError as that does."""
        token = call.get("clientRequestToken")
        if not token:
            return handle(call)
        key = call.operation, str(token)
        if key not in self._answered:
            # A refusal changed nothing, so that the call may be made anew.
            self._answered[key] = call, handle(call)
        before, result = self._answered[key]
        if before.parameters != call.parameters:
            raise ServiceError(
                errors.NOT_MODELLED, f"a token of {call.operation} that comes again with other parameters"
            )
        return result


def not_modelled(service: str, what: str) -> ServiceError:
    """The refusal of something that AWS has and the sandbox does not."""
    return ServiceError(errors.NOT_MODELLED, f"the sandbox does not model {what} ({service})")


def page(
    call: Call, items: Iterable[Any], name: str, *, size: str = "maxResults", token: str = "nextToken"
) -> dict[str, Any]:
    """One page of a list, as the parameters `size` and `token` ask for it; the token is the next index."""
    everything = list(items)
    start = int(call.get(token, 0))
    end = start + int(call.get(size, 100))
    result: dict[str, Any] = {name: everything[start:end]}
    if end < len(everything):
        result[token] = str(end)
    return result
