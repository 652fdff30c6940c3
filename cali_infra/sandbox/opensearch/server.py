"""One domain's REST API: routes, permissions and answers.

Every route names the action that the security plugin would check for it. What a real domain could do and this
one cannot is answered 501 with the operation's name.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from cali_infra.sandbox.faults import CUT, LOST, THROTTLE, Faults
from cali_infra.sandbox.opensearch.errors import (
    Obj,
    PlainError,
    SearchError,
    illegal,
    index_missing,
    not_modelled,
)
from cali_infra.sandbox.opensearch.indices import DATA_NODES, Index, Indices, nested_settings
from cali_infra.sandbox.opensearch.retention import Retention
from cali_infra.sandbox.opensearch.security import Principal, Security
from cali_infra.sandbox.opensearch.writing import Writer, operations
from cali_infra.sandbox.serving import half_answer

_log = logging.getLogger(__name__)
VERSION = "2.19.0"
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Recorded:
    """One request as a test wants to see it afterwards; bodies are not kept, they may hold passwords."""

    method: str
    path: str
    user: str
    status: int


@dataclass(frozen=True)
class _Call:
    method: str
    parts: list[str]
    query: dict[str, str]
    raw: bytes
    who: Principal

    @property
    def path(self) -> str:
        return "/" + "/".join(self.parts)

    def body(self) -> Any:
        """The JSON body, or None. Raises SearchError 400."""
        if not self.raw.strip():
            return None
        try:
            return json.loads(self.raw)
        except ValueError as error:
            raise SearchError(400, "parse_exception", f"Failed to parse content to map: {error}") from error

    def object(self) -> Obj:
        """The body as an object; none is an empty one."""
        body = self.body()
        if body is not None and not isinstance(body, dict):
            raise SearchError(400, "parse_exception", "request body must be an object")
        return body or {}


class Domain:
    """The data and the API of one domain. Runs in one event loop only."""

    def __init__(
        self, name: str, username: str, password: str, clock: Callable[[], datetime], faults: Faults
    ) -> None:
        self._faults = faults
        self.name = name
        self.security = Security(username, password)
        self.retention = Retention(lambda: int(clock().timestamp() * 1000))
        self.indices = Indices(clock, self.retention)
        self._writer = Writer(self.indices)
        self.recorded: deque[Recorded] = deque(maxlen=5000)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request; every failure becomes an error in OpenSearch's shape."""
        fault = self._faults.take(request.method, request.path)
        if fault is None:
            return await self._answer(request)
        if fault[0] == LOST:
            return await half_answer(request, await self._answer(request))
        return _troubled(request, *fault)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        user, headers = "", {}
        status: int
        body: Any
        try:
            raw = await request.read()
            who = self.security.authenticate(request.headers.get("Authorization", ""))
            user = who.name
            kind = request.content_type
            if raw and kind not in (
                "application/json",
                "application/x-ndjson",
                "application/vnd.elasticsearch+json",
            ):
                raise PlainError(
                    406,
                    {
                        "error": f"Content-Type header [{kind}] is not supported",
                        "status": 406,
                    },
                )
            parts = [unquote(part) for part in request.rel_url.raw_path.split("/") if part]
            query = {key: value or "true" for key, value in request.query.items()}
            status, body = self._route(_Call(request.method, parts, query, raw, who))
        except SearchError as error:
            status, body = error.status, error.body()
        except PlainError as error:
            status, body, headers = error.status, error.body, error.headers
        except Exception as error:  # the boundary: a client must get an answer, whatever broke
            _log.exception("%s %s", request.method, request.path)
            failed = SearchError(500, "exception", f"the sandbox's OpenSearch stand-in failed: {error!r}")
            status, body = 500, failed.body()
        self.recorded.append(Recorded(request.method, request.path, user, status))
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        indent = 2 if "pretty" in request.query else None
        text = json.dumps(body, ensure_ascii=False, indent=indent)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")

    def _route(self, call: _Call) -> Answer:
        parts, method = call.parts, call.method
        if not parts:
            call.who.demand("cluster:monitor/main")
            return 200, self._about()
        first = parts[0]
        if first in ("_plugins", "_opendistro") and len(parts) > 1:
            return self._plugin(call)
        if first in ("_index_template", "_component_template"):
            return self._template(call)
        if first == "_cluster" and parts[1:2] == ["health"] and method == "GET":
            call.who.demand("cluster:monitor/health")
            return 200, self._health()
        if first == "_cat":
            return self._cat(call)
        if first == "_bulk" or parts[1:] == ["_bulk"]:
            return self._bulk(call)
        if first == "_msearch" or parts[1:] == ["_msearch"]:
            return self._msearch(call)
        if first in ("_aliases", "_alias"):
            return self._aliases(call)
        if first in ("_search", "_count", "_refresh", "_mapping", "_settings", "_delete_by_query"):
            return self._on_indices(call, "_all", parts)
        if first.startswith("_") and first != "_all":
            raise not_modelled(f"{method} {call.path}")
        if len(parts) == 1:
            return self._index(call, first)
        return self._on_indices(call, first, parts[1:])

    def _about(self) -> Obj:
        return {
            "name": "sandbox",
            "cluster_name": f"123456789012:{self.name}",
            "cluster_uuid": "c2FuZGJveC1vcGVuc2Vh",
            "version": {
                "distribution": "opensearch",
                "number": VERSION,
                "build_type": "sandbox",
                "build_hash": "unknown",
                "build_date": "2025-02-11T00:00:00Z",
                "build_snapshot": False,
                "lucene_version": "9.12.1",
                "minimum_wire_compatibility_version": "7.10.0",
                "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "The OpenSearch Project: https://opensearch.org/",
        }

    def _health(self) -> Obj:
        indices = list(self.indices.indices.values())
        placed = [index for index in indices if index.placed]
        primaries = sum(index.shards for index in placed)
        active = sum(index.shards * (1 + min(index.replicas, DATA_NODES - 1)) for index in placed)
        wanted = sum(index.shards * (1 + index.replicas) for index in indices)
        return {
            "cluster_name": f"123456789012:{self.name}",
            "status": "red" if len(placed) < len(indices) else "green" if active == wanted else "yellow",
            "timed_out": False,
            "number_of_nodes": DATA_NODES,
            "number_of_data_nodes": DATA_NODES,
            "discovered_master": True,
            "discovered_cluster_manager": True,
            "active_primary_shards": primaries,
            "active_shards": active,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": wanted - active,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0 * active / wanted if wanted else 100.0,
        }

    def _plugin(self, call: _Call) -> Answer:
        plugin, rest = call.parts[1], call.parts[2:]
        if plugin == "_security" and rest == ["authinfo"]:
            account = self.security.account(call.who)
            kept = (
                "user_name",
                "user_requested_tenant",
                "backend_roles",
                "custom_attribute_names",
                "roles",
                "tenants",
            )
            return 200, {"user": f"User [name={call.who.name}]", **{key: account[key] for key in kept}}
        if plugin == "_security" and rest[:1] == ["api"] and len(rest) > 1:
            return self.security.handle(call.who, call.method, rest[1:], call.body())
        if plugin == "_security" and rest == ["health"]:
            return 200, {"message": None, "mode": "strict", "status": "UP"}
        if plugin == "_ism" and rest:
            actions = {"GET": "get", "PUT": "write", "DELETE": "delete", "POST": "update"}
            call.who.demand(f"cluster:admin/opendistro/ism/policy/{actions.get(call.method, 'write')}")
            return self.retention.handle(
                call.method, rest, call.query, call.body(), lambda name: self.indices.resolve(name)
            )
        raise not_modelled(f"{call.method} {call.path}")

    def _template(self, call: _Call) -> Answer:
        component = call.parts[0] == "_component_template"
        table = self.indices.components if component else self.indices.templates
        kind = "component_template" if component else "index_template"
        name = call.parts[1] if len(call.parts) > 1 else ""
        prefix = "cluster:admin/component_template" if component else "indices:admin/index_template"
        if len(call.parts) == 3 and name == "_simulate_index" and call.method == "POST":
            call.who.demand(f"{prefix}/simulate_index")
            chosen = self.indices.template_for(call.parts[2])
            return 200, {"template": self.indices.composed(chosen), "overlapping": []}
        if len(call.parts) > 2:
            raise not_modelled(f"{call.method} {call.path}")
        if call.method in ("GET", "HEAD"):
            call.who.demand(f"{prefix}/get")
            found = [key for key in sorted(table) if not name or fnmatchcase(key, name)]
            if name and not found and "*" not in name:
                raise SearchError(
                    404,
                    "resource_not_found_exception",
                    f"{kind.replace('_', ' ')} matching [{name}] not found",
                )
            return 200, {f"{kind}s": [{"name": key, kind: table[key]} for key in found]}
        if call.method in ("PUT", "POST") and name:
            call.who.demand(f"{prefix}/put")
            if call.query.get("create") == "true" and name in table:
                raise illegal(f"{kind.replace('_', ' ')} [{name}] already exists")
            put = self.indices.put_component if component else self.indices.put_template
            put(name, call.body())
            return 200, {"acknowledged": True}
        if call.method == "DELETE" and name:
            call.who.demand(f"{prefix}/delete")
            if name not in table:
                raise SearchError(404, "index_template_missing_exception", f"index_template [{name}] missing")
            users = [
                key for key, body in self.indices.templates.items() if name in body.get("composed_of", ())
            ]
            if component and users:
                raise illegal(
                    f"component templates [{name}] cannot be removed as they are still in use by index "
                    f"templates {users}"
                )
            del table[name]
            return 200, {"acknowledged": True}
        raise not_modelled(f"{call.method} {call.path}")

    # Indices

    def _index(self, call: _Call, name: str) -> Answer:
        if call.method == "PUT":
            call.who.demand_index("indices:admin/create", name)
            self.indices.create(name, call.object())
            return 200, {"acknowledged": True, "shards_acknowledged": True, "index": name}
        if call.method == "DELETE":
            if "*" in name or name == "_all":
                # Amazon's domains refuse it by default: action.destructive_requires_name.
                raise illegal("Wildcard expressions or all indices are not allowed")
            if name not in self.indices.indices:
                raise index_missing(name)
            names = self.indices.resolve(name)
            self._demand_all(call, "indices:admin/delete", names)
            self.indices.delete(names)
            return 200, {"acknowledged": True}
        if call.method in ("GET", "HEAD"):
            names = self._readable(call, "indices:admin/get", name)
            return 200, {one: self._described(self.indices.indices[one]) for one in names}
        raise not_modelled(f"{call.method} {call.path}")

    def _described(self, index: Index) -> Obj:
        return {"aliases": index.aliases, "mappings": index.mapping.body, "settings": self._settings(index)}

    def _settings(self, index: Index) -> Obj:
        own = {
            **index.settings,
            "creation_date": str(index.created),
            "uuid": index.identifier,
            "provided_name": index.name,
            "version.created": "136407827",
        }
        return {"index": nested_settings(own)}

    def _demand_all(self, call: _Call, action: str, names: Iterable[str]) -> None:
        for name in names:
            call.who.demand_index(action, name)

    def _readable(self, call: _Call, action: str, expression: str) -> list[str]:
        """The indices of an expression; all must be allowed, and a wildcard that finds nothing needs no right."""
        lenient = call.query.get("ignore_unavailable") == "true"
        # Who may not ask for an index is not told whether it is there.
        for part in expression.split(","):
            if "*" not in part and part != "_all" and not self.indices.resolve(part, lenient=True):
                call.who.demand_index(action, part)
        names = self.indices.resolve(expression, lenient=lenient)
        self._demand_all(call, action, names)
        return names

    def _on_indices(self, call: _Call, expression: str, parts: list[str]) -> Answer:
        what, method = parts[0], call.method
        if what == "_search" and len(parts) == 1 and method in ("GET", "POST"):
            return 200, self._search(call, expression, self._body_of_search(call))
        if what == "_count" and method in ("GET", "POST"):
            names = self._readable(call, "indices:data/read/search", expression)
            body = self._body_of_search(call)
            if set(body) - {"query"}:
                raise SearchError(
                    400, "parsing_exception", f"request does not support {sorted(set(body) - {'query'})}"
                )
            shards = sum(self.indices.indices[name].shards for name in names)
            count = len(self.indices.matching(names, body.get("query")))
            return 200, {"count": count, "_shards": _shards(shards)}
        if what == "_refresh" and method in ("GET", "POST"):
            names = self._readable(call, "indices:admin/refresh", expression)
            self.indices.refresh(names)
            shards = sum(self.indices.indices[name].shards for name in names)
            return 200, {"_shards": {"total": shards, "successful": shards, "failed": 0}}
        if what == "_mapping" and len(parts) == 1:
            return self._mapping(call, expression)
        if what == "_mapping" and parts[1:2] == ["field"] and len(parts) == 3 and method == "GET":
            return self._field_mapping(call, expression, parts[2])
        if what == "_settings" and len(parts) == 1:
            if method == "GET":
                names = self._readable(call, "indices:monitor/settings/get", expression)
                return 200, {name: {"settings": self._settings(self.indices.indices[name])} for name in names}
            if method == "PUT":
                names = self._readable(call, "indices:admin/settings/update", expression)
                self.indices.update_settings(names, call.object())
                return 200, {"acknowledged": True}
        if what in ("_alias", "_aliases") and len(parts) <= 2:
            return self._index_alias(call, expression, parts[1] if len(parts) == 2 else "")
        if what in ("_doc", "_create", "_source") and len(parts) <= 2:
            return self._document(call, expression, what, parts[1] if len(parts) == 2 else "")
        if what == "_delete_by_query" and method == "POST":
            names = self._readable(call, "indices:data/write/delete/byquery", expression)
            found = self.indices.matching(names, call.object().get("query"))
            for name, document in found:
                self.indices.remove(name, document.identifier)
            return 200, {
                "took": 1,
                "timed_out": False,
                "total": len(found),
                "deleted": len(found),
                "failures": [],
            }
        raise not_modelled(f"{method} {call.path}")

    def _body_of_search(self, call: _Call) -> Obj:
        body = call.object()
        query = call.query
        if "q" in query:
            body["query"] = {"query_string": {"query": query["q"]}}
        for name in ("size", "from"):
            if name in query:
                body[name] = int(query[name])
        if "sort" in query:
            body["sort"] = query["sort"].split(",")
        if "scroll" in query:
            raise not_modelled("scroll")
        return body

    def _search(self, call: _Call, expression: str, body: Obj) -> Obj:
        names = self._readable(call, "indices:data/read/search", expression)
        return {"took": 1, **self.indices.search(names, body)}

    def _msearch(self, call: _Call) -> Answer:
        call.who.demand("indices:data/read/msearch")
        default = call.parts[0] if call.parts[0] != "_msearch" else "_all"
        lines = [line for line in call.raw.split(b"\n") if line.strip()]
        if len(lines) % 2:
            raise illegal("The msearch request must be terminated by a newline [\\n]")
        responses = []
        for at in range(0, len(lines), 2):
            header, body = json.loads(lines[at]), json.loads(lines[at + 1])
            wanted = header.get("index") or default
            expression = ",".join(wanted) if isinstance(wanted, list) else str(wanted)
            lenient = header.get("ignore_unavailable")
            query = {**call.query, **({"ignore_unavailable": "true"} if lenient else {})}
            try:
                inner = _Call(call.method, call.parts, query, b"", call.who)
                responses.append({**self._search(inner, expression, body), "status": 200})
            except SearchError as error:
                responses.append(error.body())
        return 200, {"took": 1, "responses": responses}

    def _mapping(self, call: _Call, expression: str) -> Answer:
        if call.method == "GET":
            names = self._readable(call, "indices:admin/mappings/get", expression)
            return 200, {name: {"mappings": self.indices.indices[name].mapping.body} for name in names}
        if call.method in ("PUT", "POST"):
            names = self._readable(call, "indices:admin/mapping/put", expression)
            for name in names:
                self.indices.indices[name].mapping.merge(call.object())
            return 200, {"acknowledged": True}
        raise not_modelled(f"{call.method} {call.path}")

    def _field_mapping(self, call: _Call, expression: str, path: str) -> Answer:
        """One field by its whole path, in every index that has it; patterns of fields are not modelled."""
        if "*" in path or "," in path:
            raise not_modelled(f"{call.method} {call.path}")
        names = self._readable(call, "indices:admin/mappings/fields/get", expression)
        answer: Obj = {}
        for name in names:
            field = self.indices.indices[name].mapping.field(path)
            leaf = path.rpartition(".")[2]
            answer[name] = {
                "mappings": {path: {"full_name": path, "mapping": {leaf: field}}} if field else {}
            }
        return 200, answer

    # Documents

    def _document(self, call: _Call, name: str, kind: str, identifier: str) -> Answer:
        if call.method in ("GET", "HEAD"):
            names = self._readable(call, "indices:data/read/get", name)
            if len(names) != 1:
                raise illegal(
                    f"index [{name}] has more than one indices associated with it, can't execute a single index op"
                )
            document = self.indices.indices[names[0]].documents.get(identifier)
            if document is None:
                return 404, {"_index": names[0], "_id": identifier, "found": False}
            if kind == "_source":
                return 200, document.source
            return 200, {
                "_index": names[0],
                "_id": identifier,
                "_version": document.version,
                "_seq_no": document.seq_no,
                "_primary_term": 1,
                "found": True,
                "_source": document.source,
            }
        if call.method in ("PUT", "POST"):
            if call.query.get("require_alias") == "true":
                self._require_alias(call, name)
            operation = "create" if kind == "_create" or call.query.get("op_type") == "create" else "index"
            item, status = self._writer.write(
                call.who, operation, name, identifier or None, call.body(), raises=True
            )
        elif call.method == "DELETE" and kind == "_doc":
            item, status = self._writer.write(call.who, "delete", name, identifier, None, raises=True)
        else:
            raise not_modelled(f"{call.method} {call.path}")
        if call.query.get("refresh") in ("true", "wait_for"):
            self.indices.refresh([item["_index"]])
        return status, {key: value for key, value in item.items() if key != "status"}

    def _require_alias(self, call: _Call, name: str) -> None:
        """Raises SearchError 403 for who may not write there, and 404 unless it is an alias."""
        call.who.demand_index("indices:data/write/index", name)
        if not any(name in index.aliases for index in self.indices.indices.values()):
            raise index_missing(name)

    def _bulk(self, call: _Call) -> Answer:
        if call.method not in ("POST", "PUT"):
            raise not_modelled(f"{call.method} {call.path}")
        call.who.demand("indices:data/write/bulk")
        if not call.raw:
            raise SearchError(400, "parse_exception", "request body is required")
        if not call.raw.endswith(b"\n"):
            raise illegal("The bulk request must be terminated by a newline [\\n]")
        default = call.parts[0] if call.parts[0] != "_bulk" else ""
        items: list[Obj] = []
        touched = set()
        for operation, target, identifier, source in operations(call.raw, default):
            item, _ = self._writer.write(call.who, operation, target, identifier, source)
            items.append({operation: item})
            touched.add(item["_index"])
        if call.query.get("refresh") in ("true", "wait_for"):
            self.indices.refresh(name for name in touched if name in self.indices.indices)
        errors = any("error" in item for entry in items for item in entry.values())
        return 200, {"took": 1, "errors": errors, "items": items}

    # Aliases and tables

    def _index_alias(self, call: _Call, expression: str, alias: str) -> Answer:
        if call.method in ("GET", "HEAD"):
            names = self._readable(call, "indices:admin/aliases/get", expression)
            return 200, self._alias_table(names, alias)
        if call.method in ("PUT", "POST") and alias:
            names = self._readable(call, "indices:admin/aliases", expression)
            for name in names:
                self.indices.indices[name].aliases[alias] = call.object()
            return 200, {"acknowledged": True}
        if call.method == "DELETE" and alias:
            names = self._readable(call, "indices:admin/aliases", expression)
            for name in names:
                if self.indices.indices[name].aliases.pop(alias, None) is None:
                    raise SearchError(404, "aliases_not_found_exception", f"aliases [{alias}] missing")
            return 200, {"acknowledged": True}
        raise not_modelled(f"{call.method} {call.path}")

    def _alias_table(self, names: Iterable[str], alias: str) -> Obj:
        result: Obj = {}
        for name in names:
            aliases = self.indices.indices[name].aliases
            found = {key: body for key, body in aliases.items() if not alias or fnmatchcase(key, alias)}
            if found or not alias:
                result[name] = {"aliases": found}
        if alias and not result and "*" not in alias:
            raise PlainError(404, {"error": f"alias [{alias}] missing", "status": 404})
        return result

    def _aliases(self, call: _Call) -> Answer:
        if call.method in ("GET", "HEAD") and len(call.parts) <= 2:
            alias = call.parts[1] if len(call.parts) == 2 else ""
            names = self._readable(call, "indices:admin/aliases/get", "_all")
            return 200, self._alias_table(names, alias)
        if call.parts != ["_aliases"] or call.method != "POST":
            raise not_modelled(f"{call.method} {call.path}")
        for action in call.object().get("actions") or ():
            kind, options = next(iter(action.items()))
            names = self._readable(call, "indices:admin/aliases", options.get("index", ""))
            for name in names:
                aliases = self.indices.indices[name].aliases
                if kind == "add":
                    aliases[options["alias"]] = {
                        key: value for key, value in options.items() if key not in ("index", "alias")
                    }
                elif kind == "remove":
                    aliases.pop(options["alias"], None)
                else:
                    raise not_modelled(f"the alias action [{kind}]")
        return 200, {"acknowledged": True}

    def _cat(self, call: _Call) -> Answer:
        what = call.parts[1] if len(call.parts) > 1 else ""
        rows: list[Obj]
        if what == "indices" and len(call.parts) <= 3:
            names = self._readable(
                call, "indices:monitor/stats", call.parts[2] if len(call.parts) == 3 else "_all"
            )
            rows = [self._cat_index(self.indices.indices[name]) for name in names]
        elif what == "health":
            call.who.demand("cluster:monitor/health")
            health = self._health()
            rows = [
                {"cluster": health["cluster_name"], "status": health["status"], "node.total": str(DATA_NODES)}
            ]
        elif what == "templates":
            call.who.demand("indices:admin/index_template/get")
            rows = [
                {
                    "name": name,
                    "index_patterns": str(body["index_patterns"]),
                    "order": str(body.get("priority", 0)),
                }
                for name, body in sorted(self.indices.templates.items())
            ]
        else:
            raise not_modelled(f"{call.method} {call.path}")
        if call.query.get("h"):
            rows = [{key: row.get(key) for key in call.query["h"].split(",")} for row in rows]
        if call.query.get("format") == "json":
            return 200, rows
        head = [" ".join(rows[0])] if rows and "v" in call.query else []
        return 200, "".join(
            f"{line}\n" for line in [*head, *(" ".join(map(str, row.values())) for row in rows)]
        )

    @staticmethod
    def _cat_index(index: Index) -> Obj:
        size = sum(len(json.dumps(document.source)) for document in index.documents.values())
        return {
            "health": index.health,
            "status": "open",
            "index": index.name,
            "uuid": index.identifier,
            "pri": str(index.shards),
            "rep": str(index.replicas),
            "docs.count": str(len(index.documents)),
            "docs.deleted": "0",
            "store.size": f"{size * (1 + index.replicas)}b",
            "pri.store.size": f"{size}b",
        }


def _troubled(request: web.BaseRequest, status: int, retry_after: int) -> web.Response:
    if status == CUT:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
    kind = "rejected_execution_exception" if status == THROTTLE else "cluster_block_exception"
    error = SearchError(status, kind, f"the sandbox was told to answer {status}")
    return web.json_response(error.body(), status=status, headers={"Retry-After": str(retry_after)})


def _shards(count: int) -> Obj:
    return {"total": count, "successful": count, "skipped": 0, "failed": 0}
