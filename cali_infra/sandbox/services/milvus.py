"""Milvus by its REST API, version 2: collections, vectors in them, and the password of root.

Modelled, all by POST under `/v2/vectordb/`: `collections/create|has|list|describe|drop|load|get_load_state`,
`entities/insert|search|query|get|delete`, `users/describe|update_password`. A collection has one float vector and
one of the metrics COSINE, L2 and IP; what was inserted is found at once, by exact search. Filters are
`FIELD == VALUE` and `FIELD in [VALUES]`. An answer is 200 with a code, but where the password is wrong. Port 9091
says that it is well. Not modelled: everything else, gRPC included.

Sources: Milvus 2.6, `internal/distributed/proxy/httpserver/handler_v2.go`, `utils.go`, `pkg/util/merr/errors.go`.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cali_infra.sandbox.services.http import Answer, Request, not_modelled, page

ROOT = "root"
_PREFIX = "/v2/vectordb/"
_METRICS = ("COSINE", "L2", "IP")
_AUTHENTICATE, _FORMAT, _MISSING, _INSERT, _KEY = 1800, 1801, 1802, 1804, 1806
_NO_COLLECTION, _INVALID, _OLD_PASSWORD = 100, 1100, 1400
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_EQUALS = re.compile(r"(\w+)\s*==\s*(.+)")
_AMONG = re.compile(r"(\w+)\s+in\s+(\[.*\])", re.IGNORECASE)

Row = dict[str, Any]


class _MilvusError(Exception):
    """Milvus would not do this: its code and its words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _UnknownError(Exception):
    """What the stand-in does not model."""


@dataclass
class _Collection:
    name: str
    dimension: int
    metric: str
    key: str
    key_type: str
    vector: str
    automatic: bool
    # The fields of the schema beside the key and the vector, by their types; others are dynamic ones.
    fields: Mapping[str, str]
    dynamic: bool
    rows: dict[Any, Row] = field(default_factory=dict)
    last: int = 0


class Milvus:
    """One Milvus. `password` gives root's, None as long as Milvus was never started; `change` keeps another one."""

    def __init__(self, password: Callable[[], str | None], change: Callable[[str], None]) -> None:
        self._password, self._change = password, change
        self._lock = threading.Lock()
        self._collections: dict[str, _Collection] = {}

    def forget(self) -> None:
        """Its volumes are gone."""
        with self._lock:
            self._collections.clear()

    def answer(self, request: Request) -> Answer:
        """Answer a request at port 19530."""
        if not request.path.startswith(_PREFIX):
            return not_modelled("Milvus", request)
        if not self._lets_in(request):
            return Answer(401, {"code": _AUTHENTICATE, "message": "user hasn't authenticated"})
        what = request.path.removeprefix(_PREFIX)
        do = self._calls().get(what)
        if request.method != "POST" or do is None:
            return not_modelled("Milvus", request)
        try:
            body = request.json()
        except ValueError as error:
            return _error(_FORMAT, f"can only accept json format request, error: {error}")
        if not isinstance(body, dict):
            return _error(
                _FORMAT,
                "can only accept json format request, the request body should be nil, however {} is valid",
            )
        try:
            with self._lock:
                return Answer(200, {"code": 0, **do(body)})
        except _MilvusError as error:
            return _error(error.code, error.message)
        except _UnknownError as error:
            return Answer(501, {"message": f"cali's stand-in for Milvus does not model {error}"})

    def web(self, request: Request) -> Answer:
        """Answer a request at port 9091."""
        if request.method == "GET" and request.path == "/healthz":
            return Answer(200, b"OK")
        if request.method == "GET" and request.path.rstrip("/") in ("", "/webui"):
            return page(
                "Milvus",
                "This is cali's stand-in for Milvus: a rehearsal installs no chart.",
                "Its port 19530 speaks a part of the REST API; it has no WebUI to show.",
            )
        return not_modelled("Milvus", request)

    def _lets_in(self, request: Request) -> bool:
        given = request.basic()
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if given is None and kind.lower() == "bearer":
            user, _, password = token.partition(":")
            given = (user, password)
        known = self._password()
        return known is not None and given == (ROOT, known)

    def _calls(self) -> Mapping[str, Callable[[Row], Row]]:
        return {
            "collections/create": self._create,
            "collections/has": self._has,
            "collections/list": lambda body: {"data": sorted(self._collections)},
            "collections/describe": self._describe,
            "collections/drop": self._drop,
            "collections/load": lambda body: {"data": {} if self._found(body) else None},
            "collections/get_load_state": self._load_state,
            "entities/insert": self._insert,
            "entities/search": self._search,
            "entities/query": self._query,
            "entities/get": self._get,
            "entities/delete": self._delete,
            "users/describe": self._user,
            "users/update_password": self._update_password,
        }

    # -- collections ------------------------------------------------------------------------------------

    def _create(self, body: Row) -> Row:
        name = _named(body)
        if not _NAME.fullmatch(name):
            raise _MilvusError(
                _INVALID,
                f"Invalid collection name: {name}. the first character of a collection name must be an underscore "
                "or letter: invalid parameter",
            )
        made = _by_schema(name, body) if body.get("schema") else _quickly(name, body)
        if not 2 <= made.dimension <= 32768:
            raise _MilvusError(
                _INVALID,
                f"invalid dimension: {made.dimension} of field {made.vector}. float vector dimension should be in "
                "range 2 ~ 32768: invalid parameter",
            )
        if made.metric not in _METRICS:
            raise _UnknownError(f"the metric {made.metric}")
        before = self._collections.get(name)
        if before is not None:
            if (before.dimension, before.fields) == (made.dimension, made.fields):
                return {"data": {}}
            raise _MilvusError(
                65535, f"create duplicate collection with different parameters, collection: {name}"
            )
        self._collections[name] = made
        return {"data": {}}

    def _has(self, body: Row) -> Row:
        return {"data": {"has": _named(body) in self._collections}}

    def _describe(self, body: Row) -> Row:
        one = self._found(body)
        fields: list[Row] = [
            {"name": one.key, "type": one.key_type, "primaryKey": True, "autoId": one.automatic},
            {
                "name": one.vector,
                "type": "FloatVector",
                "primaryKey": False,
                "autoId": False,
                "params": [{"key": "dim", "value": str(one.dimension)}],
            },
            *({"name": name, "type": kind, "primaryKey": False} for name, kind in one.fields.items()),
        ]
        index = {"fieldName": one.vector, "indexName": one.vector, "metricType": one.metric}
        return {
            "data": {
                "collectionName": one.name,
                "autoId": one.automatic,
                "enableDynamicField": one.dynamic,
                "fields": fields,
                "indexes": [index],
                "load": "LoadStateLoaded",
            }
        }

    def _drop(self, body: Row) -> Row:
        # Milvus takes one that is not there for dropped.
        self._collections.pop(_named(body), None)
        return {"data": {}}

    def _load_state(self, body: Row) -> Row:
        loaded = _named(body) in self._collections
        return {
            "data": {"loadState": "LoadStateLoaded" if loaded else "LoadStateNotExist", "loadProgress": 100}
        }

    def _found(self, body: Row) -> _Collection:
        name = _named(body)
        if name not in self._collections:
            raise _MilvusError(_NO_COLLECTION, f"can't find collection[database=default][collection={name}]")
        return self._collections[name]

    # -- entities ---------------------------------------------------------------------------------------

    def _insert(self, body: Row) -> Row:
        one, data = self._found(body), body.get("data")
        if isinstance(data, dict):
            data = [data]
        if not data:
            raise _missing("CollectionDataReq.Data", "Data")
        rows = [self._checked(one, row) for row in data]
        keys = []
        for row in rows:
            if one.automatic:
                one.last += 1
                row[one.key] = one.last
            one.rows[row[one.key]] = row
            keys.append(row[one.key])
        return {"cost": 0, "data": {"insertCount": len(keys), "insertIds": keys}}

    def _checked(self, one: _Collection, row: Any) -> Row:
        def refuse(words: str) -> _MilvusError:
            return _MilvusError(_INSERT, f"fail to deal the insert data, error: {words}")

        if not isinstance(row, dict):
            raise refuse(f"{row} is no object")
        if one.automatic and one.key in row:
            raise refuse("invalid parameter[expected=][actual=set primary key but autoID == true]")
        wanted = [one.vector, *one.fields] if one.automatic else [one.key, one.vector, *one.fields]
        for name in wanted:
            if name not in row:
                raise refuse(f"the field {name} is missing: invalid parameter")
        vector = row[one.vector]
        if not _is_vector(vector):
            raise refuse(f"{one.vector} is no FloatVector: invalid parameter")
        if len(vector) != one.dimension:
            raise refuse(
                f"[]float32 size {len(vector)} doesn't equal to vector dimension {one.dimension} of FloatVector"
                ": invalid parameter"
            )
        if not one.automatic and isinstance(row[one.key], str) != (one.key_type == "VarChar"):
            raise _MilvusError(_KEY, "please check the primary key and its' type can only in [int, string]")
        extra = set(row) - {one.key, one.vector, *one.fields}
        if extra and not one.dynamic:
            raise refuse(f"has pass more fields without dynamic schema, please check it: {sorted(extra)}")
        return dict(row)

    def _search(self, body: Row) -> Row:
        one, vectors = self._found(body), body.get("data")
        if not vectors:
            raise _missing("SearchReqV2.Data", "Data")
        if body.get("annsField", one.vector) not in ("", one.vector):
            raise _MilvusError(
                _INVALID, f"failed to get field schema by name: fieldName({body['annsField']}) not found"
            )
        for name in set(body) & {"groupingField", "searchParams", "offset"}:
            if body[name] not in (None, {}, 0, ""):
                raise _UnknownError(f"{name} in a search")
        limit = int(body.get("limit", 100))
        if limit < 1:
            raise _MilvusError(_INVALID, f"limit [{limit}] is invalid, should be greater than 0")
        found: list[Row] = []
        counts: list[int] = []
        rows = _filtered(one, str(body.get("filter") or ""))
        for vector in vectors:
            if not _is_vector(vector) or len(vector) != one.dimension:
                raise _MilvusError(
                    _FORMAT,
                    f"can only accept json format request, error: dimension: {one.dimension}, but length of "
                    f"[]float: {len(vector) if isinstance(vector, list) else 0}: invalid parameter"
                    f"[expected=FloatVector][actual={json.dumps(vector)}]",
                )
            scored = [(_score(one.metric, vector, row[one.vector]), row) for row in rows]
            scored.sort(key=lambda pair: pair[0], reverse=one.metric != "L2")
            for distance, row in scored[:limit]:
                shown = _shown(one, row, body.get("outputFields") or [])
                found.append({"distance": distance, **shown, one.key: row[one.key]})
            counts.append(min(limit, len(scored)))
        return {"cost": 0, "data": found, "topks": counts}

    def _query(self, body: Row) -> Row:
        one = self._found(body)
        limit = int(body.get("limit", 100))
        rows = _filtered(one, str(body.get("filter") or ""))[:limit]
        return {"cost": 0, "data": [_shown(one, row, body.get("outputFields") or ["*"]) for row in rows]}

    def _get(self, body: Row) -> Row:
        one, wanted = self._found(body), body.get("id")
        if wanted is None:
            raise _missing("CollectionIDReq.ID", "ID")
        keys = wanted if isinstance(wanted, list) else [wanted]
        rows = [one.rows[key] for key in keys if key in one.rows]
        return {"cost": 0, "data": [_shown(one, row, body.get("outputFields") or ["*"]) for row in rows]}

    def _delete(self, body: Row) -> Row:
        one, text = self._found(body), str(body.get("filter") or "")
        if not text:
            raise _missing("CollectionFilterReq.Filter", "Filter")
        for row in _filtered(one, text):
            del one.rows[row[one.key]]
        return {"cost": 0, "data": {}}

    # -- users ------------------------------------------------------------------------------------------

    def _user(self, body: Row) -> Row:
        if not body.get("userName"):
            raise _missing("UserReq.UserName", "UserName")
        return {"data": ["admin"] if body["userName"] == ROOT else []}

    def _update_password(self, body: Row) -> Row:
        for name in ("userName", "password", "newPassword"):
            if not body.get(name):
                raise _missing(f"NewPasswordReq.{name[0].upper()}{name[1:]}", name[0].upper() + name[1:])
        if (body["userName"], body["password"]) != (ROOT, self._password()):
            raise _MilvusError(_OLD_PASSWORD, f"old password not correct for {body['userName']}")
        if not 6 <= len(body["newPassword"]) <= 256:
            raise _MilvusError(
                _INVALID,
                "out of range 6 <= value <= 256: invalid parameter"
                f"[expected=value in range [6, 256]][actual={len(body['newPassword'])}]",
            )
        self._change(body["newPassword"])
        return {"data": {}}


def _error(code: int, message: str) -> Answer:
    return Answer(200, {"code": code, "message": message})


def _missing(path: str, name: str) -> _MilvusError:
    return _MilvusError(
        _MISSING,
        f"missing required parameters, error: Key: '{path}' Error:Field validation for '{name}' failed on the "
        "'required' tag",
    )


def _named(body: Row) -> str:
    name = body.get("collectionName")
    if not isinstance(name, str) or not name:
        raise _missing("CollectionNameReq.CollectionName", "CollectionName")
    if body.get("dbName", "default") not in ("", "default"):
        raise _UnknownError("other databases than the default one")
    return name


def _quickly(name: str, body: Row) -> _Collection:
    """A collection of a key, a vector and whatever else comes."""
    if not body.get("dimension"):
        raise _missing("CollectionReq.Dimension", "Dimension")
    return _Collection(
        name,
        int(body["dimension"]),
        str(body.get("metricType") or "COSINE"),
        str(body.get("primaryFieldName") or "id"),
        str(body.get("idType") or "Int64"),
        str(body.get("vectorFieldName") or "vector"),
        automatic=_true(body.get("autoID")),
        fields={},
        dynamic=True,
    )


def _by_schema(name: str, body: Row) -> _Collection:
    schema = body["schema"]
    key = vector = None
    fields: dict[str, str] = {}
    for one in schema.get("fields") or ():
        kind = str(one.get("dataType") or "")
        if one.get("isPrimary"):
            key = one
        elif kind == "FloatVector":
            if vector is not None:
                raise _UnknownError("more than one vector in a collection")
            vector = one
        elif kind in ("VarChar", "Int64", "Int32", "Bool", "Double", "Float", "JSON"):
            fields[one["fieldName"]] = kind
        else:
            raise _UnknownError(f"fields of the type {kind}")
    if key is None:
        raise _MilvusError(_INVALID, "primary key is not specified: invalid parameter")
    if vector is None:
        raise _MilvusError(_INVALID, "schema does not contain vector field: invalid parameter")
    metric = "COSINE"
    for index in body.get("indexParams") or ():
        if index.get("fieldName") == vector["fieldName"]:
            metric = str(index.get("metricType") or metric)
    return _Collection(
        name,
        int((vector.get("elementTypeParams") or {}).get("dim", 0)),
        metric,
        key["fieldName"],
        str(key.get("dataType")),
        vector["fieldName"],
        automatic=_true(schema.get("autoId", schema.get("autoID"))),
        fields=fields,
        dynamic=_true(schema.get("enableDynamicField", schema.get("enabledDynamicField"))),
    )


def _true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in value
    )


def _score(metric: str, left: Sequence[float], right: Sequence[float]) -> float:
    product = math.fsum(a * b for a, b in zip(left, right, strict=True))
    match metric:
        case "L2":
            # Milvus leaves out the root.
            return math.fsum((a - b) ** 2 for a, b in zip(left, right, strict=True))
        case "IP":
            return product
    lengths = math.sqrt(math.fsum(a * a for a in left)) * math.sqrt(math.fsum(b * b for b in right))
    return product / lengths if lengths else 0.0


def _filtered(one: _Collection, text: str) -> list[Row]:
    rows = list(one.rows.values())
    text = text.strip()
    if not text:
        return rows
    if found := _AMONG.fullmatch(text):
        wanted = _value(found[2])
    elif found := _EQUALS.fullmatch(text):
        wanted = [_value(found[2])]
    else:
        raise _UnknownError(f"the filter {text}")
    return [row for row in rows if row.get(found[1]) in wanted]


def _value(text: str) -> Any:
    try:
        return json.loads(text.strip().replace("'", '"'))
    except ValueError:
        raise _UnknownError(f"the value {text} in a filter") from None


def _shown(one: _Collection, row: Row, names: Sequence[str]) -> Row:
    if "*" in names:
        return dict(row)
    return {one.key: row[one.key], **{name: row[name] for name in names if name in row}}
