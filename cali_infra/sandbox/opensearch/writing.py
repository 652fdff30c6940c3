"""Writing documents: one operation with its rights and its answer, and the lines of a `_bulk` body."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cali_infra.sandbox.opensearch.errors import Obj, SearchError, illegal, index_missing, not_modelled
from cali_infra.sandbox.opensearch.indices import DATA_NODES, Indices
from cali_infra.sandbox.opensearch.queries import Document
from cali_infra.sandbox.opensearch.security import Principal

_OPERATIONS = {
    "index": "indices:data/write/index",
    "create": "indices:data/write/index",
    "delete": "indices:data/write/delete",
}


class Writer:
    """Writes documents into a domain's indices for whoever may."""

    def __init__(self, indices: Indices) -> None:
        self._indices = indices

    def write(
        self,
        who: Principal,
        operation: str,
        name: str,
        identifier: str | None,
        source: Any,
        *,
        raises: bool = False,
    ) -> tuple[Obj, int]:
        """One write, as an item of a `_bulk` answer; with `raises` a refusal is raised instead."""
        try:
            target = self._indices.write_target(name)
            missing = target not in self._indices.indices
            # The order in which a domain asks: a missing index is made first, then the shard is written to.
            if missing and operation != "delete":
                who.demand_index("indices:admin/create", target)
            for action in [*([] if raises else ["indices:data/write/bulk[s]"]), _OPERATIONS[operation]]:
                who.demand_index(action, target)
            if operation == "delete":
                return self._deleted(target, identifier or "")
            if missing:
                self._indices.create(target, {})
            document, new = self._indices.write(target, identifier, source, only_new=operation == "create")
        except SearchError as error:
            if raises:
                raise
            item = {"_index": name, "_id": identifier, "status": error.status, "error": error.error()}
            return item, error.status
        return self._result(target, document, "created" if new else "updated"), 201 if new else 200

    def _deleted(self, target: str, identifier: str) -> tuple[Obj, int]:
        if target not in self._indices.indices:
            raise index_missing(target)
        document = self._indices.remove(target, identifier)
        if document is None:
            missing = {
                "_index": target,
                "_id": identifier,
                "_version": 1,
                "result": "not_found",
                "status": 404,
            }
            return {**missing, "_shards": {"total": 2, "successful": 1, "failed": 0}}, 404
        return self._result(target, document, "deleted"), 200

    def _result(self, target: str, document: Document, result: str) -> Obj:
        index = self._indices.indices[target]
        copies = 1 + index.replicas
        return {
            "_index": target,
            "_id": document.identifier,
            "_version": document.version,
            "result": result,
            "_shards": {"total": copies, "successful": min(copies, DATA_NODES), "failed": 0},
            "_seq_no": document.seq_no,
            "_primary_term": 1,
            "status": 201 if result == "created" else 200,
        }


def operations(raw: bytes, default: str) -> Iterator[tuple[str, str, str | None, Any]]:
    """The operations of a `_bulk` body: what, where, id and source. Raises SearchError 400 and 501.

    A source that cannot be read is the ValueError: its item alone is refused.
    """
    lines = iter(raw.split(b"\n"))
    number = 0
    for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            header = json.loads(line)
            operation, options = next(iter(header.items()))
            options = dict(options)
        except (ValueError, StopIteration, AttributeError, TypeError) as error:
            raise illegal(
                f"Malformed action/metadata line [{number}], expected START_OBJECT or END_OBJECT"
            ) from error
        if operation == "update":
            raise not_modelled("the bulk operation [update]")
        if operation not in _OPERATIONS:
            raise illegal(
                f"Malformed action/metadata line [{number}], expected field [create], [delete], [index] or "
                f"[update] but found [{operation}]"
            )
        if "_type" in options:
            raise illegal(f"Action/metadata line [{number}] contains an unknown parameter [_type]")
        target = options.get("_index") or default
        if not target:
            raise SearchError(
                400, "action_request_validation_exception", "Validation Failed: 1: index is missing;"
            )
        source: Any = None
        if operation != "delete":
            number += 1
            try:
                source = json.loads(next(lines, b""), object_pairs_hook=_object)
            except ValueError as error:
                source = error
        identifier = options.get("_id")
        yield operation, target, None if identifier in (None, "") else str(identifier), source


def _object(pairs: list[tuple[str, Any]]) -> Obj:
    """An object of a document; a domain refuses one that names a field twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Duplicate field '{twice}'")
    return found
