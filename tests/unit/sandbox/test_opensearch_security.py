"""Who gets into a domain and what the roles allow; the API that manages them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

if TYPE_CHECKING:
    from conftest import Domain, SearchClient

    from cali_infra.sandbox.opensearch import OpenSearchStandIn

API = "/_plugins/_security/api"
PASSWORD = "Wr1ting-logs"


def user(
    master: SearchClient, domain: Domain, name: str, *index_actions: str, cluster: list[str] | None = None
) -> SearchClient:
    """A user with a role of the same name on `logs-*`."""
    role = {
        "cluster_permissions": cluster or [],
        "index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": list(index_actions)}],
    }
    assert master("PUT", f"{API}/roles/{name}", role).status in (200, 201)
    assert master("PUT", f"{API}/internalusers/{name}", {"password": PASSWORD}).status in (200, 201)
    assert master("PUT", f"{API}/rolesmapping/{name}", {"users": [name]}).status in (200, 201)
    return domain.client(name, PASSWORD)


class TestDoor:
    def test_nobody_without_a_password(self, domain: Domain, master: SearchClient) -> None:
        assert master("GET", "/").status == 200
        for client in (
            domain.client("", ""),
            domain.client("cali-admin", "wrong"),
            domain.client("nobody", "x"),
        ):
            refused = client("GET", "/")
            assert (refused.status, refused.body) == (401, "Unauthorized")
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")

    def test_no_plain_http(self, domain: Domain) -> None:
        pool = urllib3.PoolManager(retries=False, timeout=5)
        with pytest.raises(urllib3.exceptions.HTTPError):
            pool.request("GET", f"http://{domain.address}/")
        pool.clear()

    def test_the_master_user_can_be_replaced(self, domain: Domain, master: SearchClient) -> None:
        domain.standin.update(domain.name, "chief", "Another-1-password")

        assert master("GET", "/").status == 401
        assert domain.client("chief", "Another-1-password")("GET", f"{API}/internalusers").status == 200

    def test_domains_know_nothing_of_each_other(
        self, domain: Domain, master: SearchClient, domains: OpenSearchStandIn, ca: Path
    ) -> None:
        address = domains.create("other", "cali-admin", "Master-1-password")
        assert address != domain.address
        master("PUT", "/logs-1")
        other = type(master)(address, ca, "cali-admin", "Master-1-password")
        assert other("HEAD", "/logs-1").status == 404
        other.close()
        domains.delete("other")
        domains.delete("other")

    def test_trouble_on_demand(self, domain: Domain, master: SearchClient) -> None:
        domain.standin.faults.answer(429, path="/_bulk", retry_after=2)
        domain.standin.faults.cut(path="/_search")

        throttled = master("POST", "/_bulk", [{"index": {"_index": "a"}}, {"a": 1}])
        assert (throttled.status, throttled.headers["Retry-After"]) == (429, "2")
        with pytest.raises(urllib3.exceptions.HTTPError):
            master("GET", "/_search")
        assert master("GET", "/_search").status == 200

    def test_an_answer_is_lost_and_the_work_is_done(self, domain: Domain, master: SearchClient) -> None:
        domain.standin.faults.lose_answer(path="/_bulk")
        lines = [{"create": {"_index": "a", "_id": "1"}}, {"a": 1}]

        with pytest.raises(urllib3.exceptions.HTTPError):
            master("POST", "/_bulk", lines)

        assert domain.standin.documents("logs", "a") == [{"a": 1}]
        assert master("POST", "/_bulk", lines).body["items"][0]["create"]["status"] == 409

    def test_what_is_not_modelled_is_named(self, master: SearchClient) -> None:
        refused = master("GET", "/_nodes/stats")

        assert refused.status == 501
        assert refused.body["error"]["reason"].endswith("does not model this: GET /_nodes/stats")


class TestUsers:
    def test_their_life(self, master: SearchClient) -> None:
        path = f"{API}/internalusers/writer"
        assert master("GET", path).body == {"status": "NOT_FOUND", "message": "user 'writer' not found."}
        made = master("PUT", path, {"password": PASSWORD, "attributes": {"team": "sre"}})
        assert (made.status, made.body) == (201, {"status": "CREATED", "message": "'writer' created."})
        again = master("PUT", path, {"password": PASSWORD, "attributes": {"team": "sre"}})
        assert (again.status, again.body) == (200, {"status": "OK", "message": "'writer' updated."})
        assert master("GET", path).body["writer"] == {
            "hash": "",
            "reserved": False,
            "hidden": False,
            "backend_roles": [],
            "attributes": {"team": "sre"},
            "opendistro_security_roles": [],
            "static": False,
        }
        assert master("DELETE", path).body == {"status": "OK", "message": "'writer' deleted."}
        assert master("DELETE", path).status == 404

    def test_a_password_is_kept_when_none_is_sent(self, domain: Domain, master: SearchClient) -> None:
        path = f"{API}/internalusers/writer"
        master("PUT", path, {"password": PASSWORD})

        assert master("PUT", path, {"attributes": {"a": "b"}}).status == 200
        assert domain.client("writer", PASSWORD)("GET", "/_plugins/_security/authinfo").status == 200

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "Please specify either 'hash' or 'password'"),
            ({"password": "short1!A"[:6]}, "Password must be minimum 8 characters long"),
            ({"password": "all-lower-case-1"}, "one uppercase letter"),
            ({"password": "Writer-1-password"}, "Password is similar to user name"),
            ({"password": PASSWORD, "roles": ["x"]}, "Invalid configuration"),
            ({"password": PASSWORD, "backend_roles": "x"}, "Wrong datatype"),
        ],
    )
    def test_what_is_refused(self, master: SearchClient, body: dict[str, Any], words: str) -> None:
        refused = master("PUT", f"{API}/internalusers/writer", body)

        assert refused.status == 400
        assert words in (refused.body.get("message") or refused.body["reason"])

    def test_a_patch(self, domain: Domain, master: SearchClient) -> None:
        master("PUT", f"{API}/internalusers/writer", {"password": PASSWORD})
        operations = '[{"op": "add", "path": "/attributes", "value": {"a": "b"}}]'

        assert master("PATCH", f"{API}/internalusers/writer", operations).status == 200
        assert master("GET", f"{API}/internalusers/writer").body["writer"]["attributes"] == {"a": "b"}
        added = '[{"op": "add", "path": "/reader", "value": {"password": "Re4ding-logs"}}]'
        assert master("PATCH", f"{API}/internalusers", added).body == {
            "status": "OK",
            "message": "Resource updated.",
        }
        assert domain.client("reader", "Re4ding-logs")("GET", "/_plugins/_security/authinfo").status == 200


class TestRoles:
    def test_given_back_in_full(self, master: SearchClient) -> None:
        body = {
            "cluster_permissions": ["cluster_composite_ops"],
            "index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": ["read"]}],
        }
        assert master("PUT", f"{API}/roles/reader", body).status == 201

        found = master("GET", f"{API}/roles/reader").body["reader"]
        assert found["index_permissions"] == [
            {
                "index_patterns": ["logs-*"],
                "dls": None,
                "fls": [],
                "masked_fields": [],
                "allowed_actions": ["read"],
            }
        ]
        assert (found["reserved"], found["tenant_permissions"]) == (False, [])

    def test_the_built_in_ones_stay(self, master: SearchClient) -> None:
        refused = master("PUT", f"{API}/roles/all_access", {})

        assert (refused.status, refused.body["message"]) == (403, "Resource 'all_access' is reserved.")

    def test_a_mapping_needs_its_role(self, master: SearchClient) -> None:
        assert master("PUT", f"{API}/rolesmapping/nobody", {"users": ["x"]}).status == 404

    def test_a_mistyped_action_group_is_not_taken_for_granted(self, master: SearchClient) -> None:
        body = {"index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": ["raed"]}]}

        assert "the action group [raed]" in master("PUT", f"{API}/roles/reader", body).body["error"]["reason"]

    def test_only_the_master_manages_them(self, domain: Domain, master: SearchClient) -> None:
        writer = user(master, domain, "writer", "crud")

        assert writer("GET", f"{API}/internalusers").status == 403
        assert writer("GET", f"{API}/account").body["roles"] == ["writer"]


def bulk(client: SearchClient, index: str, operation: str = "index") -> Any:
    return client("POST", "/_bulk", [{operation: {"_index": index}}, {"a": 1}])


class TestRights:
    def test_a_writer_writes_his_indices_and_reads_nothing(
        self, domain: Domain, master: SearchClient
    ) -> None:
        writer = user(
            master,
            domain,
            "writer",
            "create_index",
            "indices:data/write/bulk*",
            "indices:data/write/index",
            cluster=["indices:data/write/bulk"],
        )

        assert bulk(writer, "logs-1").body["errors"] is False
        foreign = bulk(writer, "other").body["items"][0]["index"]
        assert (foreign["status"], foreign["error"]["type"]) == (403, "security_exception")
        assert writer("GET", "/logs-1/_search").status == 403
        assert writer("DELETE", "/logs-1").status == 403
        assert writer("GET", "/").status == 403

    def test_a_bulk_needs_its_right_on_the_cluster(self, domain: Domain, master: SearchClient) -> None:
        writer = user(master, domain, "writer", "crud", "create_index")

        refused = bulk(writer, "logs-1")

        assert refused.status == 403
        assert refused.body["error"]["reason"] == (
            "no permissions for [indices:data/write/bulk] and User [name=writer, backend_roles=[], "
            "requestedTenant=null]"
        )

    def test_without_create_index_only_what_is_there(self, domain: Domain, master: SearchClient) -> None:
        writer = user(master, domain, "writer", "write", cluster=["cluster_composite_ops"])

        assert "indices:admin/create" in bulk(writer, "logs-1").body["items"][0]["index"]["error"]["reason"]
        master("PUT", "/logs-1")
        assert bulk(writer, "logs-1").body["errors"] is False

    def test_a_reader_reads_his_indices_only(self, domain: Domain, master: SearchClient) -> None:
        reader = user(master, domain, "reader", "read", cluster=["cluster_composite_ops_ro"])
        master("PUT", "/logs-1")
        master("PUT", "/other")

        assert reader("GET", "/logs-1/_search").status == 200
        assert reader("GET", "/logs-*/_count").body["count"] == 0
        assert reader("GET", "/other/_search").status == 403
        assert reader("PUT", "/logs-1/_doc/1", {"a": 1}).status == 403
        assert (
            reader("POST", "/_msearch", [{"index": "logs-*"}, {"size": 0}]).body["responses"][0]["status"]
            == 200
        )

    def test_a_backend_role_is_mapped_too(self, domain: Domain, master: SearchClient) -> None:
        master("PUT", f"{API}/internalusers/guest", {"password": PASSWORD, "backend_roles": ["staff"]})
        master("PUT", f"{API}/rolesmapping/readall", {"backend_roles": ["staff"]})
        master("PUT", "/logs-1")

        assert domain.client("guest", PASSWORD)("GET", "/logs-1/_search").status == 200


class TestHoles:
    """What a domain may be left open to, so that a check has something to find."""

    def test_any_password(self, domain: Domain) -> None:
        client = domain.client("cali-admin", "wrong")
        assert client("GET", "/").status == 401
        domain.standin.leave_open(domain.name, "any-password")
        assert client("GET", "/").status == 200
        assert domain.client("nobody", "wrong")("GET", "/").status == 401

    def test_no_password(self, domain: Domain) -> None:
        client = domain.client("", "")
        assert client("GET", "/").status == 401
        domain.standin.leave_open(domain.name, "no-password")
        assert client("GET", "/").status == 200
        domain.standin.leave_open(domain.name)
        assert client("GET", "/").status == 401


class TestWhoMayNotAsk:
    def test_is_not_told_whether_an_index_is_there(self, domain: Domain, master: SearchClient) -> None:
        writer = user(master, domain, "writer", "indices:data/write/index")
        assert writer("POST", "/logs-missing/_search", {}).status == 403
        assert master("POST", "/logs-missing/_search", {}).status == 404

    def test_a_write_that_demands_an_alias_writes_nothing(self, domain: Domain, master: SearchClient) -> None:
        path = "/logs-missing/_doc?require_alias=true"
        assert user(master, domain, "writer", "indices:data/write/index")("POST", path, {}).status == 404
        assert user(master, domain, "reader", "read")("POST", path, {}).status == 403
        assert master("GET", "/_cat/indices?format=json").body == []
