"""The three patches that carry no ownership: JSON patch, merge patch and strategic merge patch.

Each takes the live object and the patch and returns the object that the client wants; what may change and
who owns it then is decided elsewhere. Sources: RFC 6902, RFC 7386 and the API conventions' chapter on
strategic merge patch.
"""

from __future__ import annotations

import copy
from typing import Any

from cali_infra.sandbox.kubernetes.errors import ApiError, Obj, bad_request
from cali_infra.sandbox.kubernetes.schemas import ANY, Form, Shape

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def json_patch(live: Obj, operations: Any) -> Obj:
    """RFC 6902. Raises ApiError 400 for what is no patch, 422 for one that does not fit the object."""
    import jsonpatch
    import jsonpointer

    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        result = jsonpatch.apply_patch(copy.deepcopy(live), operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error
    if not isinstance(result, dict):
        raise bad_request("the patched object is not an object")
    return result


def merge_patch(live: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(live) if isinstance(live, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), item)
    return result


def strategic_merge(shape: Shape, live: Any, patch: Any) -> Any:
    """A strategic merge patch by the kind's own merge keys, with its `$` directives."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: item for key, item in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    result = dict(live) if isinstance(live, dict) else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        result = {key: item for key, item in result.items() if key in retained}
    for key, item in patch.items():
        if key.startswith("$"):
            _directive(result, key, item)
            continue
        inner = shape.child(key) or ANY
        if item is None:
            result.pop(key, None)
        elif isinstance(item, dict):
            result[key] = strategic_merge(inner, result.get(key), item)
        elif isinstance(item, list) and "merge" in inner.merge_strategy:
            result[key] = _merge_list(inner, result.get(key) or [], item)
        else:
            result[key] = item
    for key, order in patch.items():
        if key.startswith(_ORDER):
            name = key.removeprefix(_ORDER)
            if isinstance(result.get(name), list):
                result[name] = _ordered(shape.child(name) or ANY, result[name], order)
    return result


def _directive(result: Obj, key: str, item: Any) -> None:
    if key.startswith(_DELETE):
        name = key.removeprefix(_DELETE)
        result[name] = [entry for entry in result.get(name) or [] if entry not in item]
    elif not key.startswith(_ORDER) and key not in ("$patch", "$retainKeys"):
        raise bad_request(f"unknown strategic merge directive: {key}")


def _merge_list(shape: Shape, live: list[Any], patch: list[Any]) -> list[Any]:
    if not shape.merge_key:
        return live + [item for item in patch if item not in live]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    result = list(live)
    for item in patch:
        if not isinstance(item, dict) or shape.merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {shape.merge_key}")
        index = next(
            (i for i, entry in enumerate(result) if entry.get(shape.merge_key) == item[shape.merge_key]), None
        )
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategic_merge(shape.element, {}, item))
        else:
            result[index] = strategic_merge(shape.element, result[index], item)
    return result


def _ordered(shape: Shape, items: list[Any], order: list[Any]) -> list[Any]:
    def key_of(item: Any) -> Any:
        return item.get(shape.merge_key) if isinstance(item, dict) and shape.form is Form.LIST else item

    wanted = [key_of(item) for item in order]
    listed = sorted(
        (item for item in items if key_of(item) in wanted), key=lambda item: wanted.index(key_of(item))
    )
    rest = [item for item in items if key_of(item) not in wanted]
    return listed + rest
