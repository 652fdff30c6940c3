"""The sandbox's record, and the surroundings that lead to it and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cali_infra.errors import SandboxError
from cali_infra.sandbox.process import Sandbox, folder_of, missing_packages
from cali_infra.sandbox.record import SandboxAddress

ADDRESS = SandboxAddress(
    id="one",
    pid=1,
    aws_endpoint="http://127.0.0.1:1",
    region="ap-northeast-2",
    access_key_id="AKIA",
    secret_access_key="hidden-key",
    reattach="{}",
    ca_file=Path("/p/ca.pem"),
    control_url="http://127.0.0.1:2/hidden-path/status",
    log=Path("/p/sandbox.log"),
)


def test_a_record_comes_back_as_it_was_written() -> None:
    assert SandboxAddress.from_json(ADDRESS.to_json()) == ADDRESS


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": "one"}'])
def test_a_damaged_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        SandboxAddress.from_json(text)


def test_the_key_does_not_show_in_a_representation() -> None:
    assert "hidden" not in repr(ADDRESS)


def test_nothing_in_the_surroundings_leads_to_a_real_aws() -> None:
    surroundings = ADDRESS.surroundings(
        {
            "PATH": "/bin",
            "AWS_PROFILE": "production",
            "AWS_SESSION_TOKEN": "t",
            "AWS_ENDPOINT_URL_S3": "https://elsewhere",
            "AWS_ACCESS_KEY_ID": "real",
            "NO_PROXY": "internal",
        }
    )
    assert "production" not in surroundings.values()
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"} & surroundings.keys()
    assert surroundings["AWS_ACCESS_KEY_ID"] == "AKIA"
    assert surroundings["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert surroundings["PATH"] == "/bin"
    assert surroundings["NO_PROXY"] == "internal,127.0.0.1,localhost"


def test_the_server_gets_no_keys_and_no_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def started(command: list[str], *, env: dict[str, str], **rest: object) -> None:
        given.update(env)
        raise OSError("enough")

    monkeypatch.setattr("cali_infra.sandbox.process.subprocess.Popen", started)
    environ = {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_SECRET_ACCESS_KEY": "real",
        "CALI_OPENSEARCH__MASTER_PASSWORD": "real",
    }
    with pytest.raises(OSError, match="enough"):
        Sandbox(tmp_path / "sandbox").start("ap-northeast-2", environ)
    assert given["PATH"] == "/bin"
    assert "real" not in given.values()


def test_another_projects_sandbox_is_used_when_the_environment_names_it(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    theirs.mkdir()
    assert folder_of(mine, {}) == mine / ".cali" / "sandbox"
    assert folder_of(mine, {"CALI_SANDBOX_DIR": str(theirs)}) == theirs / ".cali" / "sandbox"
    with pytest.raises(SandboxError, match="CALI_SANDBOX_DIR names"):
        folder_of(mine, {"CALI_SANDBOX_DIR": str(tmp_path / "none")})


def test_a_sandbox_that_never_was_does_not_run_and_is_not_made_by_asking(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "sandbox")
    assert sandbox.address() is None
    assert sandbox.status()["running"] is False
    assert sandbox.stop() is False
    assert not (tmp_path / "sandbox").exists()


def test_a_record_without_a_living_server_is_removed_and_its_process_left_alone(tmp_path: Path) -> None:
    # The process id in the record is somebody else's by now: this test's.
    record = {**json.loads(ADDRESS.to_json()), "pid": os.getpid()}
    (tmp_path / "sandbox.json").write_text(json.dumps(record))
    (tmp_path / "sandbox.lock").touch()
    assert Sandbox(tmp_path).stop() is False
    assert not (tmp_path / "sandbox.json").exists()


def test_missing_packages_are_named_as_they_are_installed() -> None:
    assert missing_packages(lambda module: None if module == "grpc" else object()) == ["grpcio"]
    assert missing_packages() == []
