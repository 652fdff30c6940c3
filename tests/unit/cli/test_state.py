"""`cali state bootstrap`, as it is typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from cali_infra.adapters.aws import Aws
from tests.unit.cli.conftest import Cali

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}
REMOTE = "state:\n  backend: s3\n  bucket: team-terraform-states\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    with mock_aws():
        yield tmp_path


def test_the_bucket_is_made_once(cali: Cali, project: Path) -> None:
    (project / "cali.yaml").write_text(REMOTE)
    first, second = (cali("--output", "json", "state", "bootstrap", environ=KEYS) for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.document == {"ok": True, "bucket": "team-terraform-states", "created": True}
    assert second.document == {"ok": True, "bucket": "team-terraform-states", "created": False}
    found = Aws("ap-northeast-2", KEYS).bucket("team-terraform-states")
    assert found is not None
    assert found.region == "ap-northeast-2"


def test_the_bucket_goes_where_its_settings_say(cali: Cali, project: Path) -> None:
    (project / "cali.yaml").write_text(REMOTE + "  region: eu-west-1\n")
    ran = cali("state", "bootstrap", environ=KEYS)
    assert ran.code == 0
    assert "versioned, encrypted, private" in ran.err
    found = Aws("eu-west-1", KEYS).bucket("team-terraform-states")
    assert found is not None
    assert found.region == "eu-west-1"


def test_a_local_state_is_wrong_usage(cali: Cali, project: Path) -> None:
    (project / "cali.yaml").write_text("region: ap-northeast-2\n")
    ran = cali("state", "bootstrap", environ=KEYS)
    assert ran.code == 2
    assert "state.backend" in ran.err
