"""The indices of one domain: templates, settings, mappings, documents, aliases.

It owns the data and how it is written and searched; who may and how it is asked over HTTP is `server.py`'s. A
document shows in searches after the index's refresh interval, as on a real domain, or after `_refresh`.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from cali_infra.sandbox.opensearch import queries
from cali_infra.sandbox.opensearch.errors import (
    Obj,
    SearchError,
    illegal,
    index_missing,
    not_modelled,
    unknown_key,
    unparsable,
)
from cali_infra.sandbox.opensearch.mappings import IndexMapping
from cali_infra.sandbox.opensearch.mappings import check as check_mapping
from cali_infra.sandbox.opensearch.queries import Compiler, Document
from cali_infra.sandbox.opensearch.retention import Retention

_SETTINGS = (
    "number_of_shards", "number_of_replicas", "refresh_interval", "codec", "hidden", "auto_expand_replicas",
    "max_result_window", "max_docvalue_fields_search", "default_pipeline", "final_pipeline", "version.",
    "mapping.", "query.default_field", "plugins.index_state_management.", "opendistro.index_state_management.",
    "translog.", "merge.", "blocks.", "lifecycle.", "routing.", "sort.", "search.", "analysis.", "unassigned.",
    "priority", "creation_date", "uuid", "provided_name", "replication.type", "knn",
)  # fmt: skip
_STATIC = ("number_of_shards", "codec", "sort.", "routing_partition_size", "knn")
_TEMPLATE_KEYS = ("index_patterns", "priority", "template", "composed_of", "version", "_meta", "data_stream")
_SEARCH_KEYS = (
    "query", "size", "from", "sort", "_source", "aggs", "aggregations", "track_total_hits", "timeout", "explain",
    "version", "seq_no_primary_term", "stored_fields", "docvalue_fields", "highlight", "script_fields",
    "search_after",
)  # fmt: skip
_REFUSED_SEARCH_KEYS = ("highlight", "script_fields", "collapse", "rescore", "suggest", "pit")
DATA_NODES = 3


@dataclass
class Index:
    """One index; `documents` by id."""

    name: str
    identifier: str
    created: int
    settings: dict[str, str]
    mapping: IndexMapping
    aliases: dict[str, Obj] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    seq_no: int = -1

    @property
    def shards(self) -> int:
        return int(self.settings.get("number_of_shards", "1"))

    @property
    def replicas(self) -> int:
        return int(self.settings.get("number_of_replicas", "1"))

    @property
    def placed(self) -> bool:
        """Whether a data node may hold its shards: a filter by name, address or attribute fits none of them."""
        filters = [
            key
            for key in self.settings
            if key.startswith(("routing.allocation.require.", "routing.allocation.include."))
        ]
        return not any(self.settings[key] for key in filters if "_tier" not in key)

    @property
    def health(self) -> str:
        if not self.placed:
            return "red"
        return "green" if self.replicas < DATA_NODES else "yellow"

    @property
    def refresh_seconds(self) -> float:
        """How long a new document stays unseen; infinite where refreshing is off."""
        text = self.settings.get("refresh_interval", "1s")
        if text.startswith("-1"):
            return float("inf")
        for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
            if text.endswith(unit):
                return float(text.removesuffix(unit)) * factor
        return float(text) / 1000

    def visible(self, now: float) -> list[Document]:
        """The documents that a search sees at `now`, in seconds."""
        return [one for one in self.documents.values() if one.visible_at <= now]


class Indices:
    """All indices and templates of one domain."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        retention: Retention,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._clock = clock
        self._retention = retention
        self._new_id = new_id
        self.indices: dict[str, Index] = {}
        self.templates: dict[str, Obj] = {}
        self.components: dict[str, Obj] = {}

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock().timestamp()

    # Which indices

    def resolve(self, expression: str, *, lenient: bool = False) -> list[str]:
        """The indices of an expression with commas, wildcards and aliases; SearchError 404 for a missing name."""
        found: dict[str, None] = {}
        for part in (expression or "_all").split(","):
            pattern = "*" if part == "_all" else part
            if pattern.startswith("-"):
                for name in [one for one in found if fnmatchcase(one, pattern[1:])]:
                    del found[name]
                continue
            matches = [
                index.name
                for index in self.indices.values()
                if fnmatchcase(index.name, pattern)
                or any(fnmatchcase(alias, pattern) for alias in index.aliases)
            ]
            if not matches and "*" not in pattern and not lenient:
                raise index_missing(part)
            found.update(dict.fromkeys(sorted(matches)))
        return list(found)

    def write_target(self, name: str) -> str:
        """The index that a write to a name or an alias goes to. Raises SearchError 400 for an ambiguous alias."""
        if name in self.indices:
            return name
        holders = [index for index in self.indices.values() if name in index.aliases]
        writers = [index for index in holders if index.aliases[name].get("is_write_index")]
        if len(holders) > 1 and not writers:
            raise illegal(
                f"no write index is defined for alias [{name}]. The write index may be explicitly disabled using "
                "is_write_index=false or the alias points to multiple indices without one being designated as a "
                "write index"
            )
        return (writers or holders)[0].name if holders else name

    # Indices

    def create(self, name: str, body: Obj) -> Index:
        """Makes an index from the best template and this body. Raises SearchError 400."""
        _check_name(name)
        if name in self.indices:
            raise SearchError(
                400,
                "resource_already_exists_exception",
                f"index [{name}/{self.indices[name].identifier}] already exists",
                more={"index": name, "index_uuid": self.indices[name].identifier},
            )
        if any(name in index.aliases for index in self.indices.values()):
            raise SearchError(
                400, "invalid_index_name_exception", f"Invalid index name [{name}], already exists as alias"
            )
        for key in body:
            if key not in ("settings", "mappings", "aliases"):
                raise unknown_key("create_index", key)
        merged = self.composed(self.template_for(name))
        settings = {
            **flat_settings(merged.get("settings") or {}),
            **flat_settings(body.get("settings") or {}),
        }
        mapping = IndexMapping(
            merged.get("mappings") or {}, int(settings.get("mapping.total_fields.limit", 1000))
        )
        mapping.merge(body.get("mappings") or {})
        index = Index(
            name,
            self._new_id().hex[:22],
            int(self.now() * 1000),
            {"number_of_shards": "1", "number_of_replicas": "1", **settings},
            mapping,
            {**(merged.get("aliases") or {}), **(body.get("aliases") or {})},
        )
        self.indices[name] = index
        self._retention.attach(name)
        return index

    def delete(self, names: Iterable[str]) -> None:
        """Removes indices."""
        for name in names:
            del self.indices[name]
            self._retention.forget(name)

    def update_settings(self, names: Iterable[str], body: Obj) -> None:
        """Changes dynamic settings. Raises SearchError 400 for one that is fixed at creation."""
        changes = flat_settings(body.get("settings", body))
        for key in changes:
            if key.startswith(_STATIC):
                raise illegal(f"Can't update non dynamic settings [[index.{key}]] for open indices")
        for name in names:
            self.indices[name].settings |= changes

    def refresh(self, names: Iterable[str]) -> None:
        """Shows everything written so far to searches."""
        now = self.now()
        for name in names:
            documents = self.indices[name].documents
            for key, document in documents.items():
                if document.visible_at > now:
                    documents[key] = replace(document, visible_at=now)

    # Templates

    def put_template(self, name: str, body: Any) -> None:
        """Stores an index template. Raises SearchError 400."""
        if not isinstance(body, dict):
            raise SearchError(400, "parse_exception", "request body is required")
        for key in body:
            if key not in _TEMPLATE_KEYS:
                raise unknown_key("index_template", key)
        if "data_stream" in body:
            raise not_modelled("data streams")
        patterns = body.get("index_patterns")
        if not patterns:
            raise SearchError(
                400,
                "action_request_validation_exception",
                "Validation Failed: 1: index template [index_patterns] must not be empty;",
            )
        patterns = [patterns] if isinstance(patterns, str) else patterns
        missing = [item for item in body.get("composed_of") or () if item not in self.components]
        if missing:
            raise SearchError(
                400,
                "invalid_index_template_exception",
                f"index_template [{name}] invalid, cause [index template [{name}] specifies component templates "
                f"{missing} that do not exist]",
            )
        priority = body.get("priority", 0)
        for other, existing in self.templates.items():
            if (
                other != name
                and existing.get("priority", 0) == priority
                and _overlap(patterns, existing["index_patterns"])
            ):
                raise illegal(
                    f"index template [{name}] has index patterns {_listed(patterns)} matching patterns from "
                    f"existing templates [{other}] with patterns ({other} => "
                    f"{_listed(existing['index_patterns'])}) that have the same priority [{priority}], multiple "
                    "index templates may not match during index creation, please use a different priority"
                )
        template = _checked_template(body.get("template") or {}, "template")
        stored = {**body, "index_patterns": patterns, "composed_of": body.get("composed_of") or []}
        if template or "template" in body:
            stored["template"] = template
        self.templates[name] = stored

    def put_component(self, name: str, body: Any) -> None:
        """Stores a component template. Raises SearchError 400."""
        if not isinstance(body, dict) or "template" not in body:
            raise SearchError(400, "x_content_parse_exception", "Required [template]")
        for key in body:
            if key not in ("template", "version", "_meta"):
                raise unknown_key("component_template", key)
        self.components[name] = {**body, "template": _checked_template(body["template"], "template")}

    def template_for(self, index: str) -> str:
        """The template with the highest priority whose patterns match, or nothing."""
        matching = [
            (int(body.get("priority", 0)), name)
            for name, body in self.templates.items()
            if any(fnmatchcase(index, pattern) for pattern in body["index_patterns"])
        ]
        return max(matching)[1] if matching else ""

    def composed(self, name: str) -> Obj:
        """A template with its component templates laid under it: settings, mappings and aliases."""
        if not name:
            return {}
        template = self.templates[name]
        parts = [self.components[item]["template"] for item in template.get("composed_of") or ()]
        result: Obj = {}
        for part in [*parts, template.get("template") or {}]:
            result = _deep(result, part)
        return result

    # Documents

    def write(
        self, name: str, identifier: str | None, source: Any, *, only_new: bool = False
    ) -> tuple[Document, bool]:
        """Stores a document; returns it and whether it is new. Raises SearchError 400, or 409 for `only_new`."""
        if not isinstance(source, dict):
            cause: Obj | None = None
            if isinstance(source, ValueError):
                cause = {"type": "json_parse_exception", "reason": str(source)}
            raise SearchError(400, "mapper_parsing_exception", "failed to parse", cause=cause)
        index = self.indices[name]
        key = identifier or self._identifier()
        before = index.documents.get(key)
        if before is not None and only_new:
            raise SearchError(
                409,
                "version_conflict_engine_exception",
                f"[{key}]: version conflict, document already exists (current version [{before.version}])",
                more={"index": name, "shard": "0", "index_uuid": index.identifier},
            )
        values = index.mapping.take(source, key)
        index.seq_no += 1
        now = self.now()
        version = before.version + 1 if before else 1
        document = Document(key, source, values, version, index.seq_no, now + index.refresh_seconds)
        index.documents[key] = document
        return document, before is None

    def remove(self, name: str, identifier: str) -> Document | None:
        """Deletes a document."""
        index = self.indices[name]
        found = index.documents.pop(identifier, None)
        if found is not None:
            index.seq_no += 1
        return found

    def _identifier(self) -> str:
        return self._new_id().hex[:20]

    # Searching

    def matching(self, names: Iterable[str], query: Any) -> list[tuple[str, Document]]:
        """The visible documents that a query selects, with their index."""
        now = self._clock()
        seconds = now.timestamp()
        found = []
        for name in names:
            index = self.indices[name]
            test = Compiler(index.mapping, now).compile(query)
            found += [(name, document) for document in index.visible(seconds) if test(document)]
        return found

    def search(self, names: list[str], body: Obj) -> Obj:
        """A search's answer without its timing. Raises SearchError 400, 501 for what is not modelled."""
        for key in body:
            if key in _REFUSED_SEARCH_KEYS:
                raise not_modelled(f"[{key}] in a search")
            if key not in _SEARCH_KEYS:
                raise unparsable(f"Unknown key for a START_OBJECT in [{key}].")
        size, start = int(body.get("size", 10)), int(body.get("from", 0))
        if size < 0 or start < 0:
            raise illegal("[size] and [from] parameters cannot be negative")
        if size + start > 10_000:
            raise illegal(
                f"Result window is too large, from + size must be less than or equal to: [10000] but was "
                f"[{size + start}]. See the scroll api for a more efficient way to request large data sets."
            )
        hits = self.matching(names, body.get("query"))
        sort = body.get("sort")
        for name in names:
            queries.check_sort(self.indices[name].mapping, sort)
        rows = queries.sort_hits(hits, sort)
        if "search_after" in body:
            if start > 0:
                raise illegal("`from` parameter must be set to 0 when `search_after` is used.")
            rows = queries.rows_after(rows, sort, body["search_after"], self._common_mapping(names))
        shown = []
        for index, document, order in rows[start : start + size]:
            hit: Obj = {"_index": index, "_id": document.identifier, "_score": None if sort else 1.0}
            if body.get("seq_no_primary_term"):
                hit |= {"_seq_no": document.seq_no, "_primary_term": 1}
            source = queries.filtered_source(document.source, body.get("_source"))
            if source is not None:
                hit["_source"] = source
            if sort:
                hit["sort"] = [
                    int(item) if isinstance(item, float) and item.is_integer() else item for item in order
                ]
            shown.append(hit)
        shards = sum(self.indices[name].shards for name in names)
        answer: Obj = {
            "timed_out": False,
            "_shards": {"total": shards, "successful": shards, "skipped": 0, "failed": 0},
            "hits": {
                "total": {"value": len(hits), "relation": "eq"},
                "max_score": 1.0 if hits and not sort and size else None,
                "hits": shown,
            },
        }
        if body.get("track_total_hits") is False:
            del answer["hits"]["total"]
        wanted = body.get("aggs") or body.get("aggregations")
        if wanted:
            mapping = self._common_mapping(names)
            answer["aggregations"] = queries.aggregate([document for _, document in hits], wanted, mapping)
        return answer

    def _common_mapping(self, names: list[str]) -> IndexMapping:
        merged: Obj = {}
        for name in names:
            merged = _deep(merged, self.indices[name].mapping.body)
        return IndexMapping(merged, 1_000_000)


def _check_name(name: str) -> None:
    reason = ""
    if name != name.lower():
        reason = "must be lowercase"
    elif name[:1] in "_-+" or not name:
        reason = "must not start with '_', '-', or '+'"
    elif any(character in name for character in ' "*\\<|,>/?#:'):
        reason = 'must not contain the following characters [ , ", *, \\, <, |, ,, >, /, ?]'
    elif len(name.encode()) > 255:
        reason = "index name is too long"
    if reason:
        raise SearchError(
            400,
            "invalid_index_name_exception",
            f"Invalid index name [{name}], {reason}",
            more={"index": name},
        )


def flat_settings(settings: Any, prefix: str = "") -> dict[str, str]:
    """Settings as dotted keys without `index.`, all values text, as a domain keeps them. SearchError 400."""
    result: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        for key, value in node.items():
            inner = f"{path}{key}"
            if isinstance(value, dict):
                walk(value, f"{inner}.")
            else:
                text = json.dumps(value) if isinstance(value, bool | list) else str(value)
                result[inner.removeprefix("index.")] = text

    walk(settings, prefix)
    for key in result:
        if not key.startswith(_SETTINGS):
            raise illegal(
                f"unknown setting [index.{key}] please check that any required plugins are installed, or check the "
                "breaking changes documentation for removed settings"
            )
    return result


def nested_settings(flat: Mapping[str, str]) -> Obj:
    """Dotted settings as the nested object in which they are given back."""
    result: Obj = {}
    for key, value in flat.items():
        node = result
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return result


def _checked_template(template: Obj, where: str) -> Obj:
    for key in template:
        if key not in ("settings", "mappings", "aliases"):
            raise unknown_key(where, key)
    result: Obj = {}
    if "settings" in template:
        result["settings"] = {"index": nested_settings(flat_settings(template["settings"]))}
    if "mappings" in template:
        check_mapping(template["mappings"])
        result["mappings"] = copy.deepcopy(template["mappings"])
    if "aliases" in template:
        result["aliases"] = copy.deepcopy(template["aliases"])
    return result


def _deep(base: Obj, over: Obj) -> Obj:
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _deep(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _overlap(left: Iterable[str], right: Iterable[str]) -> bool:
    return any(fnmatchcase(one, two) or fnmatchcase(two, one) for one in left for two in right)


def _listed(items: Iterable[str]) -> str:
    return json.dumps(list(items)).replace('"', "")
