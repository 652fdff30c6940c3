"""Templates, retention policies, and what becomes of a record on its way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Answer, Domain, SearchClient

TEMPLATE: dict[str, Any] = {
    "index_patterns": ["logs-*"],
    "priority": 100,
    "template": {
        "settings": {"number_of_shards": 2, "refresh_interval": "5s", "mapping.total_fields.limit": 20},
        "mappings": {
            "date_detection": False,
            "dynamic_templates": [
                {"strings": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}},
            ],
            "properties": {
                "@timestamp": {"type": "date"},
                "log": {"type": "text"},
                "n": {"type": "integer"},
                "lax": {"type": "date", "ignore_malformed": True},
                "off": {"type": "object", "enabled": False},
            },
        },
    },
}
POLICY: dict[str, Any] = {
    "description": "delete after a month",
    "default_state": "kept",
    "states": [
        {
            "name": "kept",
            "actions": [],
            "transitions": [{"state_name": "gone", "conditions": {"min_index_age": "30d"}}],
        },
        {"name": "gone", "actions": [{"delete": {}}], "transitions": []},
    ],
    "ism_template": [{"index_patterns": ["logs-*"], "priority": 100}],
}
POLICIES = "/_plugins/_ism/policies"


def write(client: SearchClient, *records: Any, index: str = "logs-1", operation: str = "index") -> Answer:
    lines: list[Any] = []
    for number, record in enumerate(records):
        lines += [{operation: {"_index": index, "_id": str(number)}}, record]
    return client("POST", "/_bulk", lines)


class TestTemplates:
    def test_given_back_as_a_domain_does(self, master: SearchClient) -> None:
        assert master("HEAD", "/_index_template/logs").status == 404
        assert master("PUT", "/_index_template/logs", TEMPLATE).body == {"acknowledged": True}

        (found,) = master("GET", "/_index_template/logs").body["index_templates"]
        assert found["name"] == "logs"
        settings = found["index_template"]["template"]["settings"]
        assert settings["index"]["number_of_shards"] == "2"
        assert settings["index"]["mapping"] == {"total_fields": {"limit": "20"}}
        assert found["index_template"]["composed_of"] == []
        assert master("DELETE", "/_index_template/logs").status == 200
        assert master("GET", "/_index_template/logs").status == 404

    def test_a_new_index_gets_the_best_one(self, master: SearchClient) -> None:
        low = {"index_patterns": ["l*"], "priority": 1, "template": {"settings": {"number_of_shards": 9}}}
        master("PUT", "/_index_template/low", low)
        master("PUT", "/_index_template/logs", TEMPLATE)

        write(master, {"@timestamp": "2026-01-01T00:00:00Z", "pod": "a"})

        found = master("GET", "/logs-1").body["logs-1"]
        assert found["settings"]["index"]["number_of_shards"] == "2"
        assert found["mappings"]["properties"]["@timestamp"] == {"type": "date"}
        assert found["mappings"]["properties"]["pod"] == {"type": "keyword"}

    @pytest.mark.parametrize(
        ("body", "kind", "words"),
        [
            ({"index_patterns": []}, "action_request_validation_exception", "index_patterns"),
            ({"index_patterns": ["a"], "order": 1}, "x_content_parse_exception", "unknown field [order]"),
            (
                {"index_patterns": ["a"], "template": {"settings": {"shards": 1}}},
                "illegal_argument_exception",
                "unknown setting [index.shards]",
            ),
            (
                {
                    "index_patterns": ["a"],
                    "template": {"mappings": {"properties": {"a": {"type": "string"}}}},
                },
                "mapper_parsing_exception",
                "No handler for type [string] declared on field [a]",
            ),
            (
                {"index_patterns": ["a"], "composed_of": ["b"]},
                "invalid_index_template_exception",
                "do not exist",
            ),
        ],
    )
    def test_what_is_wrong_in_one(self, master: SearchClient, body: Any, kind: str, words: str) -> None:
        refused = master("PUT", "/_index_template/bad", body)

        assert (refused.status, refused.body["error"]["type"]) == (400, kind)
        assert words in refused.body["error"]["reason"]

    def test_two_of_the_same_priority_may_not_meet(self, master: SearchClient) -> None:
        master("PUT", "/_index_template/logs", TEMPLATE)

        refused = master("PUT", "/_index_template/more", {**TEMPLATE, "index_patterns": ["logs-a*"]})

        assert "please use a different priority" in refused.body["error"]["reason"]

    def test_components_lie_beneath(self, master: SearchClient) -> None:
        base = {"template": {"settings": {"number_of_shards": 7, "number_of_replicas": 0}}}
        master("PUT", "/_component_template/base", base)
        master("PUT", "/_index_template/logs", {**TEMPLATE, "composed_of": ["base"]})

        found = master("POST", "/_index_template/_simulate_index/logs-1").body["template"]["settings"][
            "index"
        ]
        assert (found["number_of_shards"], found["number_of_replicas"]) == ("2", "0")
        assert master("DELETE", "/_component_template/base").status == 400


class TestRetention:
    def put(self, client: SearchClient, body: Any = POLICY, query: str = "") -> Answer:
        return client("PUT", f"{POLICIES}/logs{query}", {"policy": body})

    def test_made_and_given_back(self, master: SearchClient) -> None:
        assert master("GET", f"{POLICIES}/logs").body["error"]["reason"] == "Policy not found"

        made = self.put(master)

        assert (made.status, made.body["_version"], made.body["policy"]["policy"]["policy_id"]) == (
            201,
            1,
            "logs",
        )
        found = master("GET", f"{POLICIES}/logs").body
        assert found["policy"]["states"][1]["actions"] == [
            {"retry": {"count": 3, "backoff": "exponential", "delay": "1m"}, "delete": {}}
        ]
        assert master("GET", POLICIES).body["total_policies"] == 1

    def test_a_change_has_to_name_the_version(self, master: SearchClient) -> None:
        made = self.put(master).body

        refused = self.put(master)
        assert (refused.status, refused.body["error"]["type"]) == (409, "version_conflict_engine_exception")
        version = f"?if_seq_no={made['_seq_no']}&if_primary_term={made['_primary_term']}"
        changed = self.put(master, {**POLICY, "description": "other"}, version)
        assert (changed.status, changed.body["_version"]) == (200, 2)
        assert "current document has seqNo" in self.put(master, POLICY, version).body["error"]["reason"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"states": []}, "at least one state"),
            ({"default_state": "nowhere"}, "valid default state"),
            ({"stages": []}, "Invalid field: [stages]"),
            ({"states": [{"name": "kept", "actions": [{"burn": {}}]}]}, "Invalid field: [burn]"),
            (
                {"states": [{"name": "kept", "transitions": [{"state_name": "gone"}]}]},
                "pointing to a nonexistent state=gone",
            ),
        ],
    )
    def test_what_is_wrong_in_one(self, master: SearchClient, change: Any, words: str) -> None:
        refused = self.put(master, {**POLICY, **change})

        assert refused.status == 400
        assert words in refused.body["error"]["reason"]

    def test_a_new_index_is_managed(self, master: SearchClient) -> None:
        self.put(master)
        master("PUT", "/logs-1")
        master("PUT", "/other")

        said = master("GET", "/_plugins/_ism/explain/_all").body
        assert (said["logs-1"]["policy_id"], said["total_managed_indices"]) == ("logs", 1)
        assert master("POST", "/_plugins/_ism/add/other", {"policy_id": "logs"}).body["updated_indices"] == 1
        assert master("POST", "/_plugins/_ism/remove/other").body["failures"] is False

    def test_deleted(self, master: SearchClient) -> None:
        self.put(master)

        assert master("DELETE", f"{POLICIES}/logs").body["result"] == "deleted"
        assert master("GET", f"{POLICIES}/logs").status == 404


class TestBulk:
    @pytest.fixture(autouse=True)
    def template(self, master: SearchClient) -> None:
        assert master("PUT", "/_index_template/logs", TEMPLATE).status == 200

    def test_every_item_has_its_own_answer(self, master: SearchClient) -> None:
        good, bad = {"@timestamp": "2026-01-01T00:00:00Z"}, {"@timestamp": "yesterday"}

        answer = write(master, good, bad, good).body

        assert answer["errors"] is True
        assert [item["index"]["status"] for item in answer["items"]] == [201, 400, 201]
        error = answer["items"][1]["index"]["error"]
        assert error["type"] == "mapper_parsing_exception"
        assert error["reason"] == (
            "failed to parse field [@timestamp] of type [date] in document with id '1'. Preview of field's value: "
            "'yesterday'"
        )

    @pytest.mark.parametrize(
        ("record", "words"),
        [
            ({"n": "many"}, "failed to parse field [n] of type [integer]"),
            ({"n": 3_000_000_000}, "failed to parse field [n] of type [integer]"),
            ({"log": {"a": 1}}, "failed to parse field [log] of type [text]"),
            (
                {"app": "x", "app.kubernetes.io/name": "y"},
                "object mapping for [app] tried to parse field [app]",
            ),
            ({"lax": {"seconds": 1}}, "failed to parse field [lax] of type [date]"),
            ({f"f{number}": 1 for number in range(30)}, "Limit of total fields [20] has been exceeded"),
        ],
    )
    def test_what_does_not_fit_the_mapping(
        self, domain: Domain, master: SearchClient, record: Any, words: str
    ) -> None:
        before = {"app": {"kubernetes": {"io/name": "x"}}} if "app" in record else {"log": "first"}
        write(master, before)
        fields = master("GET", "/logs-1/_mapping").body

        answer = master("POST", "/logs-1/_bulk", [{"index": {}}, record]).body["items"][0]["index"]

        assert answer["status"] == 400
        assert words in answer["error"]["reason"]
        assert master("GET", "/logs-1/_mapping").body == fields
        assert domain.standin.documents("logs", "logs-*") == [before]

    def test_a_field_named_twice_is_refused_alone(self, master: SearchClient) -> None:
        lines = [
            '{"index": {"_index": "logs-1"}}',
            '{"a": {"b": 1, "b": 2}}',
            '{"index": {"_index": "logs-1"}}',
            "{}",
        ]

        refused, stored = master("POST", "/_bulk", "\n".join(lines) + "\n").body["items"]

        assert (refused["index"]["status"], stored["index"]["status"]) == (400, 201)
        assert refused["index"]["error"]["caused_by"]["reason"] == "Duplicate field 'b'"

    @pytest.mark.parametrize("value", ["yesterday", True, {"seconds": 1}, [{"a": 1}, 2], None])
    def test_what_is_switched_off_takes_anything(
        self, domain: Domain, master: SearchClient, value: Any
    ) -> None:
        assert write(master, {"off": {"a": 1}}, {"off": value}).body["errors"] is False
        assert {"off": value} in domain.standin.documents("logs", "logs-*")

    @pytest.mark.parametrize("value", ["yesterday", True])
    def test_what_is_malformed_may_be_ignored(self, master: SearchClient, value: Any) -> None:
        assert write(master, {"lax": value}).body["errors"] is False

    def test_create_does_not_overwrite(self, master: SearchClient) -> None:
        write(master, {"a": "1"}, operation="create")

        again = write(master, {"a": "2"}, operation="create").body["items"][0]["create"]

        assert (again["status"], again["error"]["type"]) == (409, "version_conflict_engine_exception")
        assert write(master, {"a": "3"}).body["items"][0]["index"]["result"] == "updated"

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ('{"index": {"_index": "logs-1"}}\n{"a": 1}', "must be terminated by a newline"),
            ('{"index": {"_index": "logs-1", "_type": "_doc"}}\n{"a": 1}\n', "unknown parameter [_type]"),
            ('{"insert": {}}\n{"a": 1}\n', "found [insert]"),
            ('{"index": {}}\n{"a": 1}\n', "index is missing"),
        ],
    )
    def test_what_is_wrong_as_a_whole(self, master: SearchClient, body: str, words: str) -> None:
        refused = master("POST", "/_bulk", body)

        assert (refused.status, words in refused.body["error"]["reason"]) == (400, True)

    def test_a_dot_in_a_key_is_an_object(self, master: SearchClient) -> None:
        write(master, {"a.b": "x"}, {"a": {"b": "y"}})

        properties = master("GET", "/logs-1/_mapping").body["logs-1"]["mappings"]["properties"]
        assert properties["a"] == {"properties": {"b": {"type": "keyword"}}}

    def test_a_big_one(self, master: SearchClient) -> None:
        records = [{"log": "x" * 2000} for _ in range(1000)]

        assert write(master, *records).body["errors"] is False


class TestIndices:
    def test_made_twice_or_badly_named(self, master: SearchClient) -> None:
        assert master("PUT", "/logs-1").body["index"] == "logs-1"
        assert master("PUT", "/logs-1").body["error"]["type"] == "resource_already_exists_exception"
        assert master("PUT", "/Logs").body["error"]["type"] == "invalid_index_name_exception"

    def test_deleted_by_name_only(self, master: SearchClient) -> None:
        master("PUT", "/logs-1")

        assert master("DELETE", "/logs-*").status == 400
        assert master("DELETE", "/logs-1").body == {"acknowledged": True}
        missing = master("DELETE", "/logs-1")
        assert (missing.status, missing.body["error"]["reason"]) == (404, "no such index [logs-1]")

    def test_one_field_s_mapping_is_told_in_every_index(self, master: SearchClient) -> None:
        inner = {"properties": {"b": {"type": "keyword"}}}
        properties = {"@timestamp": {"type": "date"}, "a": inner}
        for name in ("logs-1", "logs-2"):
            master("PUT", f"/{name}", {"mappings": {"properties": properties}})
        found = master("GET", "/logs-*/_mapping/field/%40timestamp").body
        one = {"full_name": "@timestamp", "mapping": {"@timestamp": {"type": "date"}}}
        assert found == {name: {"mappings": {"@timestamp": one}} for name in ("logs-1", "logs-2")}
        found = master("GET", "/logs-1/_mapping/field/a.b").body
        assert found["logs-1"]["mappings"]["a.b"]["mapping"] == {"b": {"type": "keyword"}}
        assert master("GET", "/logs-1/_mapping/field/none").body == {"logs-1": {"mappings": {}}}
        assert master("GET", "/logs-1/_mapping/field/a*").status == 501

    def test_settings_and_mappings_change_where_they_may(self, master: SearchClient) -> None:
        master("PUT", "/logs-1", {"mappings": {"properties": {"a": {"type": "keyword"}}}})

        assert master("PUT", "/logs-1/_settings", {"index": {"number_of_replicas": 2}}).status == 200
        assert master("PUT", "/logs-1/_settings", {"number_of_shards": 2}).status == 400
        assert master("PUT", "/logs-1/_mapping", {"properties": {"b": {"type": "long"}}}).status == 200
        refused = master("PUT", "/logs-1/_mapping", {"properties": {"a": {"type": "long"}}})
        assert refused.body["error"]["reason"] == "mapper [a] cannot be changed from type [keyword] to [long]"

    def test_listed(self, master: SearchClient) -> None:
        master("PUT", "/logs-1/_doc/1", {"a": 1})

        (row,) = master("GET", "/_cat/indices?format=json").body
        assert (row["index"], row["health"], row["docs.count"], row["pri"], row["rep"]) == (
            "logs-1",
            "green",
            "1",
            "1",
            "1",
        )

    def test_health(self, master: SearchClient) -> None:
        assert master("GET", "/_cluster/health").body["status"] == "green"
        master("PUT", "/logs-1", {"settings": {"number_of_replicas": 3}})
        assert master("GET", "/_cluster/health").body["status"] == "yellow"

    def test_aliases(self, master: SearchClient) -> None:
        master("PUT", "/logs-1")
        add = {"add": {"index": "logs-1", "alias": "logs", "is_write_index": True}}
        assert master("POST", "/_aliases", {"actions": [add]}).status == 200

        assert master("PUT", "/logs/_doc/1?refresh=true", {"a": 1}).body["_index"] == "logs-1"
        assert master("GET", "/logs/_count").body["count"] == 1
        assert master("GET", "/_alias/logs").body == {
            "logs-1": {"aliases": {"logs": {"is_write_index": True}}}
        }
