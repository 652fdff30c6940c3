"""Teammates' own users of the domain, on the OpenSearch stand-in."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core.access import Entry
from cali_infra.core.index import READER, Index
from cali_infra.core.search_users import DASHBOARDS, SearchUsers
from cali_infra.core.secrets import check_opensearch_password
from cali_infra.errors import PreconditionError
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.opensearch import OpenSearchStandIn

MASTER = ("cali-admin", "Master-1-password")
JIN = Entry("arn:aws:iam::123456789012:user/jin", "Jin", "view")
# Another principal of the same name.
ROLE = Entry("arn:aws:iam::123456789012:role/jin", "Jin's role", "view")


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[OpenSearch]:
    authority = Authority.create()
    (tmp_path / "ca.pem").write_bytes(authority.ca_pem)
    standin = OpenSearchStandIn(authority)
    address = standin.create("logs", *MASTER)
    yield OpenSearch(address, MASTER[0], SecretStr(MASTER[1]), tmp_path / "ca.pem")
    standin.close()


@pytest.fixture
def users(domain: OpenSearch, tmp_path: Path) -> SearchUsers:
    secret = SecretStr("Unused-1-password")
    index = Index("cali-logs", 30, 3, secret, secret)
    domain.put_role(READER, index.roles()[READER])
    return SearchUsers(domain, tmp_path / "handover")


def read(file: Path | None) -> dict[str, str]:
    assert file is not None
    return dict(line.split(": ", 1) for line in file.read_text().splitlines())


def test_a_teammate_gets_a_user_that_may_read_and_a_file_to_hand_over(
    domain: OpenSearch, users: SearchUsers
) -> None:
    users.check()
    made = users.grant(JIN, random.SystemRandom())

    told = read(made.file)
    assert made.user == told["user"] == "jin"
    assert check_opensearch_password(told["password"])
    assert domain.accepts("jin", SecretStr(told["password"]))
    assert made.file is not None
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.file.parent.stat().st_mode) == 0o700
    assert users.by_principal() == {JIN.arn: "jin"}
    body = domain.user("jin")
    assert body is not None
    assert body["opendistro_security_roles"] == [READER, DASHBOARDS]


def test_a_user_that_is_there_keeps_its_password(domain: OpenSearch, users: SearchUsers) -> None:
    first = users.grant(JIN, random.SystemRandom())
    told = read(first.file)

    again = users.grant(JIN, random.SystemRandom())

    assert (again.user, again.file) == ("jin", None)
    assert domain.accepts("jin", SecretStr(told["password"]))


def test_two_principals_of_one_name_get_two_users(users: SearchUsers) -> None:
    users.grant(JIN, random.SystemRandom())
    other = users.grant(ROLE, random.SystemRandom())
    assert other.user.startswith("jin-")
    assert users.by_principal() == {JIN.arn: "jin", ROLE.arn: other.user}


def test_a_name_of_the_domains_own_is_not_taken_over(domain: OpenSearch, users: SearchUsers) -> None:
    made = users.grant(
        Entry("arn:aws:iam::123456789012:user/cali-admin", "Lead", "admin"), random.SystemRandom()
    )
    assert made.user != "cali-admin"
    assert domain.accepts(MASTER[0], SecretStr(MASTER[1]))


def test_a_revocation_deletes_that_user_and_no_other(domain: OpenSearch, users: SearchUsers) -> None:
    jin, other = users.grant(JIN, random.SystemRandom()), users.grant(ROLE, random.SystemRandom())

    assert users.revoke({JIN.arn, "arn:aws:iam::123456789012:user/nobody"}) == ("jin",)

    assert domain.user("jin") is None
    assert jin.file is not None
    assert not jin.file.exists()
    assert users.by_principal() == {ROLE.arn: other.user}
    assert users.revoke({JIN.arn}) == ()


def test_without_the_role_nothing_is_made(domain: OpenSearch, tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match=READER):
        SearchUsers(domain, tmp_path / "handover").check()
