"""The query language: which of an index's documents a query selects, and the answers built from them.

A query is compiled once into a predicate over a document's values. Nothing is scored: every hit has 1.0, as in a
filter. Queries and aggregations that are not here are refused by name. Source: the query DSL chapter of the
OpenSearch documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from cali_infra.sandbox.opensearch import dates
from cali_infra.sandbox.opensearch.errors import Obj, SearchError, illegal, not_modelled, unparsable
from cali_infra.sandbox.opensearch.mappings import DATE, TEXT, IndexMapping, Values, convert


@dataclass(frozen=True)
class Document:
    """One stored document; `visible_at` (seconds) is when the next refresh shows it to searches."""

    identifier: str
    source: Obj
    values: Values
    version: int
    seq_no: int
    visible_at: float


Predicate = Callable[[Document], bool]
_WORD = re.compile(r"\w+(?:['’.]\w+)*", re.UNICODE)
_DEFAULT_FIELDS = ("*",)


def tokens(text: object) -> list[str]:
    """A text as the standard analyzer cuts it."""
    return [word.lower() for word in _WORD.findall(str(text))]


class Compiler:
    """Compiles queries for one index."""

    def __init__(self, mapping: IndexMapping, now: datetime) -> None:
        self._mapping = mapping
        self._now = now
        self._kinds: dict[str, Callable[[Any], Predicate]] = {
            "match_all": lambda body: lambda document: True,
            "match_none": lambda body: lambda document: False,
            "term": self._term,
            "terms": self._terms,
            "match": self._match,
            "match_phrase": self._match_phrase,
            "multi_match": self._multi_match,
            "range": self._range,
            "exists": self._exists,
            "prefix": self._prefix,
            "wildcard": self._wildcard,
            "ids": lambda body: lambda document: document.identifier in body.get("values", ()),
            "bool": self._bool,
            "constant_score": lambda body: self.compile(body.get("filter")),
            "query_string": self._query_string,
            "simple_query_string": self._query_string,
        }

    def compile(self, query: Any) -> Predicate:
        """The predicate of a query. Raises SearchError 400, or 501 for one that is not modelled."""
        if query is None:
            return lambda document: True
        if not isinstance(query, dict) or len(query) != 1:
            raise unparsable("[bool] malformed query, expected [END_OBJECT] but found [FIELD_NAME]")
        kind, body = next(iter(query.items()))
        build = self._kinds.get(kind)
        if build is None:
            raise not_modelled(f"the query [{kind}]")
        return build(body)

    def _one(self, kind: str, body: Any, key: str) -> tuple[str, Any, Obj]:
        """The field, the value and the options of a query such as `{"field": value}`."""
        body = {name: item for name, item in body.items() if name not in ("boost", "_name")}
        if len(body) != 1:
            raise unparsable(f"[{kind}] query doesn't support multiple fields, found {sorted(body)}")
        path, value = next(iter(body.items()))
        if isinstance(value, dict):
            return path, value.get(key), value
        return path, value, {}

    def _compared(self, path: str, value: Any) -> Any:
        definition = self._mapping.field(path) or {}
        kind = definition.get("type", "keyword")
        if kind in TEXT:
            return str(value)
        if kind in DATE:
            return dates.math(value, self._now, definition.get("format", dates.DEFAULT_FORMAT))
        try:
            return convert(definition, kind, value)
        except ValueError as error:
            raise SearchError(400, "query_shard_exception", f"failed to create query: {error}") from error

    def _equals(self, path: str, value: Any) -> Predicate:
        if path == "_id":
            return lambda document: document.identifier == value
        if path == "_index":
            raise not_modelled("a query on [_index]")
        definition = self._mapping.field(path)
        if definition is None:
            return lambda document: False
        if definition.get("type") in TEXT:
            return lambda document: any(str(value) in tokens(item) for item in _values(document, path))
        wanted = self._compared(path, value)
        return lambda document: wanted in _values(document, path)

    def _term(self, body: Any) -> Predicate:
        path, value, options = self._one("term", body, "value")
        if options.get("case_insensitive"):
            lowered = str(value).lower()
            return lambda document: any(str(item).lower() == lowered for item in _values(document, path))
        return self._equals(path, value)

    def _terms(self, body: Any) -> Predicate:
        path, values, _ = self._one("terms", body, "value")
        if not isinstance(values, list):
            raise not_modelled("a terms lookup")
        tests = [self._equals(path, value) for value in values]
        return lambda document: any(test(document) for test in tests)

    def _match(self, body: Any) -> Predicate:
        path, value, options = self._one("match", body, "query")
        definition = self._mapping.field(path)
        if definition is None or definition.get("type") not in TEXT:
            return self._equals(path, value)
        wanted = tokens(value)
        every = str(options.get("operator", "or")).lower() == "and"

        def test(document: Document) -> bool:
            found = {word for item in _values(document, path) for word in tokens(item)}
            return bool(wanted) and (all if every else any)(word in found for word in wanted)

        return test

    def _match_phrase(self, body: Any) -> Predicate:
        path, value, _ = self._one("match_phrase", body, "query")
        definition = self._mapping.field(path)
        if definition is None or definition.get("type") not in TEXT:
            return self._equals(path, value)
        wanted = tokens(value)
        return lambda document: any(_holds(tokens(item), wanted) for item in _values(document, path))

    def _multi_match(self, body: Any) -> Predicate:
        kind = "match_phrase" if body.get("type") == "phrase" else "match"
        options = {"operator": body["operator"]} if "operator" in body and kind == "match" else {}
        tests = [
            self.compile({kind: {path: {"query": body.get("query"), **options}}})
            for path in self._fields(body.get("fields") or _DEFAULT_FIELDS)
        ]
        return lambda document: any(test(document) for test in tests)

    def _fields(self, patterns: Iterable[str]) -> list[str]:
        wanted = [pattern.split("^")[0] for pattern in patterns]
        return [
            path
            for path, definition in self._mapping.paths()
            if any(fnmatchcase(path, pattern) for pattern in wanted)
            and definition.get("type") in (*TEXT, "keyword")
        ]

    def _range(self, body: Any) -> Predicate:
        path, _, options = self._one("range", body, "")
        definition = self._mapping.field(path) or {}
        is_date = definition.get("type") in DATE
        formats = options.get("format") or definition.get("format") or dates.DEFAULT_FORMAT
        tests: list[Callable[[Any], bool]] = []
        for name, bound in options.items():
            if name in ("format", "boost", "time_zone", "relation"):
                if name == "time_zone" and bound not in ("UTC", "Z", "+00:00"):
                    raise not_modelled(f"a range with the time zone {bound}")
                continue
            compare = _COMPARE.get(name)
            if compare is None:
                raise unparsable(f"[range] query does not support [{name}]")
            if bound is None:
                continue
            if is_date:
                limit: Any = dates.math(bound, self._now, formats, up=name in ("gt", "lte"))
            else:
                limit = self._compared(path, bound)
            tests.append(_bound(compare, limit))
        return lambda document: any(all(test(item) for test in tests) for item in _values(document, path))

    def _exists(self, body: Any) -> Predicate:
        path = body.get("field", "")
        inside = f"{path}."
        return lambda document: any(
            name == path or name.startswith(inside) for name in document.values.by_path
        )

    def _prefix(self, body: Any) -> Predicate:
        path, value, _ = self._one("prefix", body, "value")
        return self._texts(path, lambda text: text.startswith(str(value)))

    def _wildcard(self, body: Any) -> Predicate:
        path, value, options = self._one("wildcard", body, "value")
        pattern = str(options.get("wildcard") or value)
        if options.get("case_insensitive"):
            return self._texts(path, lambda text: fnmatchcase(text.lower(), pattern.lower()))
        return self._texts(path, lambda text: fnmatchcase(text, pattern))

    def _texts(self, path: str, test: Callable[[str], bool]) -> Predicate:
        is_text = (self._mapping.field(path) or {}).get("type") in TEXT

        def found(document: Document) -> bool:
            for item in _values(document, path):
                if any(test(word) for word in (tokens(item) if is_text else [str(item)])):
                    return True
            return False

        return found

    def _bool(self, body: Any) -> Predicate:
        known = (
            "must",
            "filter",
            "should",
            "must_not",
            "minimum_should_match",
            "boost",
            "adjust_pure_negative",
        )
        for name in body:
            if name not in known:
                raise unparsable(f"[bool] query does not support [{name}]")
        must = [self.compile(item) for part in ("must", "filter") for item in _as_list(body.get(part))]
        should = [self.compile(item) for item in _as_list(body.get("should"))]
        must_not = [self.compile(item) for item in _as_list(body.get("must_not"))]
        least = body.get("minimum_should_match", 0 if must or not should else 1)
        if not isinstance(least, int):
            if not re.fullmatch(r"\d+", str(least)):
                raise not_modelled(f"minimum_should_match {least}")
            least = int(least)

        def test(document: Document) -> bool:
            return (
                all(item(document) for item in must)
                and not any(item(document) for item in must_not)
                and sum(1 for item in should if item(document)) >= least
            )

        return test

    def _query_string(self, body: Any) -> Predicate:
        fields = body.get("fields") or [body.get("default_field") or "*"]
        every = str(body.get("default_operator", "or")).lower() == "and"
        return _QueryString(self, fields, every).compile(str(body.get("query", "")))


class _QueryString:
    """The small language of `query_string`: words, "phrases", field:value, wildcards, AND, OR, NOT, brackets."""

    _TOKEN = re.compile(
        r'\s*(\(|\)|[\w@.*\-/]+:(?=\()|AND\b|OR\b|NOT\b|&&|\|\||[+\-!](?=\S)|(?:[\w@.*\-/]+:)?(?:"[^"]*"|\[[^\]]*\]|[^\s()]+))'
    )

    def __init__(self, compiler: Compiler, fields: Sequence[str], every: bool) -> None:
        self._compiler = compiler
        self._fields = fields
        self._every = every
        self._scope = ""
        self._tokens: list[str] = []
        self._at = 0

    def compile(self, text: str) -> Predicate:
        at = 0
        while at < len(text.rstrip()):
            found = self._TOKEN.match(text, at)
            if not found:
                raise SearchError(400, "query_shard_exception", f"Failed to parse query [{text}]")
            self._tokens.append(found[1])
            at = found.end()
        if not self._tokens:
            return lambda document: False
        result = self._sequence()
        if self._at < len(self._tokens):
            raise SearchError(400, "query_shard_exception", f"Failed to parse query [{text}]")
        return result

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _sequence(self) -> Predicate:
        result = self._conjunction()
        while self._peek() not in ("", ")"):
            if self._peek() in ("OR", "||"):
                self._at += 1
                result = _either(result, self._conjunction())
            else:
                following = self._conjunction()
                result = _both(result, following) if self._every else _either(result, following)
        return result

    def _conjunction(self) -> Predicate:
        result = self._factor()
        while self._peek() in ("AND", "&&"):
            self._at += 1
            result = _both(result, self._factor())
        return result

    def _factor(self) -> Predicate:
        word = self._peek()
        self._at += 1
        if word.endswith(":") and self._peek() == "(":
            outer, self._scope = self._scope, word[:-1]
            inner = self._factor()
            self._scope = outer
            return inner
        if word in ("NOT", "-", "!"):
            inner = self._factor()
            return lambda document: not inner(document)
        if word == "+":
            return self._factor()
        if word == "(":
            inner = self._sequence()
            if self._peek() != ")":
                raise SearchError(
                    400, "query_shard_exception", "Failed to parse query: a bracket is not closed"
                )
            self._at += 1
            return inner
        if word in ("", ")", "AND", "OR", "&&", "||"):
            raise SearchError(400, "query_shard_exception", f"Failed to parse query at [{word}]")
        return self._leaf(word)

    def _leaf(self, word: str) -> Predicate:
        field, text = self._scope, word
        if (colon := re.match(r"([\w@.*\-/]+):(?=.)", word)) is not None:
            field, text = colon[1], word[colon.end() :]
        if text == "*" and field in ("", "*"):
            return lambda document: True
        if field == "_exists_":
            return self._compiler.compile({"exists": {"field": text}})
        paths = (
            [field]
            if field and "*" not in field
            else self._compiler._fields([field] if field else self._fields)
        )
        if text == "*":
            return _any_of([self._compiler.compile({"exists": {"field": path}}) for path in paths])
        if text.startswith("["):
            found = re.fullmatch(r"\[(\S+) TO (\S+)\]", text)
            if not found:
                raise SearchError(400, "query_shard_exception", f"Failed to parse query [{text}]")
            bounds = {
                name: item for name, item in zip(("gte", "lte"), found.groups(), strict=True) if item != "*"
            }
            return _any_of([self._compiler.compile({"range": {path: bounds}}) for path in paths])
        if text.startswith('"'):
            phrase = text.strip('"')
            return _any_of([self._compiler.compile({"match_phrase": {path: phrase}}) for path in paths])
        if text[0] in "<>" or text.endswith("~") or "^" in text or text.startswith("/"):
            raise not_modelled(f"[{word}] in a query_string")
        if "*" in text or "?" in text:
            return _any_of([self._wild(path, text) for path in paths])
        return _any_of([self._compiler.compile({"match": {path: text}}) for path in paths])

    def _wild(self, path: str, text: str) -> Predicate:
        is_text = (self._compiler._mapping.field(path) or {}).get("type") in TEXT
        return self._compiler.compile({"wildcard": {path: text.lower() if is_text else text}})


def _either(left: Predicate, right: Predicate) -> Predicate:
    return lambda document: left(document) or right(document)


def _both(left: Predicate, right: Predicate) -> Predicate:
    return lambda document: left(document) and right(document)


def _any_of(tests: Sequence[Predicate]) -> Predicate:
    return lambda document: any(test(document) for test in tests)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def _bound(compare: Callable[[Any, Any], bool], limit: Any) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        return isinstance(value, str) is isinstance(limit, str) and compare(value, limit)

    return test


def _values(document: Document, path: str) -> list[Any]:
    return document.values.by_path.get(path, [])


def _holds(words: Sequence[str], phrase: Sequence[str]) -> bool:
    size = len(phrase)
    return size > 0 and any(words[at : at + size] == phrase for at in range(len(words) - size + 1))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


Row = tuple[str, Document, list[Any]]


def sort_hits(hits: list[tuple[str, Document]], sort: Any) -> list[Row]:
    """Hits (index, document) in the order of `sort`, each with its sort values; missing values come last."""
    keys = [_sort_key(item) for item in _as_list(sort)]
    rows = [(index, document, [_sort_value(document, path) for path, _ in keys]) for index, document in hits]
    for position, (_, descending) in reversed(list(enumerate(keys))):
        present = [row for row in rows if row[2][position] is not None]
        absent = [row for row in rows if row[2][position] is None]
        present.sort(key=lambda row: row[2][position], reverse=descending)
        rows = present + absent
    return rows


def rows_after(rows: Sequence[Row], sort: Any, after: Any, mapping: IndexMapping) -> list[Row]:
    """The sorted rows that come behind the sort values `after`; those that are equal to them do not.

    Raises SearchError 400, or 501 for a value that is missing.
    """
    keys = [_sort_key(item) for item in _as_list(sort)]
    if not keys:
        raise illegal("Sort must contain at least one field.")
    if not isinstance(after, list) or len(after) != len(keys):
        count = len(after) if isinstance(after, list) else 1
        raise illegal(f"search_after has {count} value(s) but sort has {len(keys)}.")
    if None in after:
        raise not_modelled("search_after a value that is missing")
    bounds = [_bound_of(path, value, mapping) for (path, _), value in zip(keys, after, strict=True)]
    return [row for row in rows if _behind(row[2], bounds, [descending for _, descending in keys])]


def _bound_of(path: str, value: Any, mapping: IndexMapping) -> Any:
    kind = (mapping.field(path) or {}).get("type")
    if kind not in DATE:
        return value
    try:
        return dates.parse(value)
    except ValueError as error:
        raise illegal(f"Failed to parse search_after value for field [{path}].") from error


def _behind(values: Sequence[Any], bounds: Sequence[Any], descending: Sequence[bool]) -> bool:
    for value, bound, down in zip(values, bounds, descending, strict=True):
        if value is None:
            # Missing values come last in either direction.
            return True
        if value != bound:
            return bool(value < bound if down else value > bound)
    return False


def _sort_key(item: Any) -> tuple[str, bool]:
    if isinstance(item, str):
        path, _, order = item.partition(":")
        return path, order == "desc" or (path == "_score" and order != "asc")
    path, options = next(iter(item.items()))
    order = options if isinstance(options, str) else options.get("order", "asc")
    return path, str(order).lower() == "desc"


def _sort_value(document: Document, path: str) -> Any:
    if path == "_score":
        return 1.0
    if path == "_doc":
        return document.seq_no
    if path == "_id":
        return document.identifier
    values = _values(document, path)
    return values[0] if values else None


def check_sort(mapping: IndexMapping, sort: Any) -> None:
    """Refuses to sort by an unmapped field or by a text, as OpenSearch does."""
    for item in _as_list(sort):
        path, _ = _sort_key(item)
        if path in ("_score", "_doc", "_id"):
            continue
        definition = mapping.field(path)
        optional = isinstance(item, dict) and "unmapped_type" in (
            item[path] if isinstance(item.get(path), dict) else {}
        )
        if definition is None and not optional:
            raise SearchError(
                400, "query_shard_exception", f"No mapping found for [{path}] in order to sort on"
            )
        if definition is not None and definition.get("type") in TEXT:
            raise illegal(
                "Text fields are not optimised for operations that require per-document field data like "
                "aggregations and sorting, so these operations are disabled by default. Please use a keyword "
                f"field instead. Alternatively, set fielddata=true on [{path}]"
            )


def filtered_source(source: Obj, wanted: Any) -> Obj | None:
    """The part of a document that `_source` asks for; None for `false`."""
    if wanted is False or wanted == "false":
        return None
    if wanted in (None, True, "true"):
        return source
    if isinstance(wanted, dict):
        includes, excludes = _as_list(wanted.get("includes")), _as_list(wanted.get("excludes"))
    else:
        includes, excludes = _as_list(wanted), []

    def kept(path: str) -> bool:
        return (
            not includes or any(fnmatchcase(path, item) or path.startswith(f"{item}.") for item in includes)
        ) and not any(fnmatchcase(path, item) or path.startswith(f"{item}.") for item in excludes)

    def walk(node: Obj, prefix: str) -> Obj:
        result: Obj = {}
        for key, value in node.items():
            path = f"{prefix}{key}"
            if isinstance(value, dict) and not kept(path):
                inner = walk(value, f"{path}.")
                if inner:
                    result[key] = inner
            elif kept(path):
                result[key] = walk(value, f"{path}.") if isinstance(value, dict) and excludes else value
        return result

    return walk(source, "")


def aggregate(documents: Sequence[Document], body: Any, mapping: IndexMapping) -> Obj:
    """Aggregations over documents: terms, date_histogram, filter-less metrics. SearchError 501 for others."""
    result: Obj = {}
    for name, definition in (body or {}).items():
        inner = definition.get("aggs") or definition.get("aggregations")
        kinds = [key for key in definition if key not in ("aggs", "aggregations", "meta")]
        if len(kinds) != 1:
            raise unparsable(f"Found two aggregation type definitions in [{name}]")
        kind, options = kinds[0], definition[kinds[0]]
        path = options.get("field", "")
        if kind == "terms":
            result[name] = _terms(documents, path, options, inner, mapping)
        elif kind == "date_histogram":
            result[name] = _histogram(documents, path, options, inner, mapping)
        elif kind in ("min", "max", "sum", "avg", "value_count", "cardinality"):
            result[name] = {
                "value": _metric(kind, [item for one in documents for item in _values(one, path)])
            }
        else:
            raise not_modelled(f"the aggregation [{kind}]")
    return result


def _terms(documents: Sequence[Document], path: str, options: Obj, inner: Any, mapping: IndexMapping) -> Obj:
    check_sort(mapping, [{path: {"unmapped_type": "keyword"}}])
    groups: dict[Any, list[Document]] = {}
    for document in documents:
        for value in dict.fromkeys(_values(document, path)):
            groups.setdefault(value, []).append(document)
    size = int(options.get("size", 10))
    ordered = sorted(groups.items(), key=lambda pair: (-len(pair[1]), str(pair[0])))
    buckets = [
        {"key": value, "doc_count": len(found), **(aggregate(found, inner, mapping) if inner else {})}
        for value, found in ordered[:size]
    ]
    rest = sum(len(found) for _, found in ordered[size:])
    return {"doc_count_error_upper_bound": 0, "sum_other_doc_count": rest, "buckets": buckets}


def _histogram(
    documents: Sequence[Document], path: str, options: Obj, inner: Any, mapping: IndexMapping
) -> Obj:
    text = options.get("fixed_interval") or options.get("interval")
    if not text:
        raise not_modelled("a date_histogram without fixed_interval")
    step = dates.interval_millis(str(text))
    groups: dict[float, list[Document]] = {}
    for document in documents:
        for value in _values(document, path)[:1]:
            groups.setdefault(value // step * step, []).append(document)
    least = int(options.get("min_doc_count", 0))
    buckets = []
    for start in _steps(sorted(groups), step) if least == 0 else sorted(groups):
        found = groups.get(start, [])
        bucket: Obj = {"key_as_string": iso(start), "key": int(start), "doc_count": len(found)}
        buckets.append({**bucket, **(aggregate(found, inner, mapping) if inner else {})})
    return {"buckets": buckets}


def _steps(starts: Sequence[float], step: float) -> Iterator[float]:
    if starts:
        at = starts[0]
        while at <= starts[-1]:
            yield at
            at += step


def iso(millis: float) -> str:
    """Milliseconds since 1970 as OpenSearch prints a date."""
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(millis) % 1000:03d}Z"


def _metric(kind: str, values: Sequence[Any]) -> float | int | None:
    if kind == "value_count":
        return len(values)
    if kind == "cardinality":
        return len(set(values))
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if not numbers:
        return 0.0 if kind == "sum" else None
    if kind == "avg":
        return sum(numbers) / len(numbers)
    if kind == "sum":
        return sum(numbers)
    return min(numbers) if kind == "min" else max(numbers)
