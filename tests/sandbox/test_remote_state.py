"""A state in S3: its bucket made by cali, locked by Terraform's own file, read by another laptop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from .conftest import Project

pytestmark = pytest.mark.sandbox

BUCKET = "acme-terraform-state"
KEY = "cali/default/network.tfstate"


def test_the_bucket_is_versioned_encrypted_private_and_tls_only(project: Project) -> None:
    project.settings(state={"backend": "s3", "bucket": BUCKET})

    first = project.cali("state", "bootstrap")
    second = project.cali("state", "bootstrap")

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.document == {"ok": True, "bucket": BUCKET, "created": True}
    assert second.document == {"ok": True, "bucket": BUCKET, "created": False}
    s3 = project.aws("s3")
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    rules = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_up_keeps_the_state_in_the_bucket_and_nowhere_else(project: Project) -> None:
    ran = project.cali("up", "network", "--yes")

    assert ran.code == 0, ran.err
    assert ran.stages == {"network": "applied"}
    stored = json.loads(project.aws("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read())
    assert "vpc_id" in stored["outputs"]
    keys = [item["Key"] for item in project.aws("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == [KEY], "the lock file is gone"
    assert not list(project.workspace.glob("terraform/*/terraform.tfstate*"))


def test_another_laptop_finds_it_there(project: Project) -> None:
    """The same project in another folder, with nothing of the first one's workspace."""
    other = replace(project, folder=project.folder.parent / "laptop", ran=[])
    other.folder.mkdir()
    for name in ("cali.yaml", "secrets.yaml"):
        shutil.copy2(project.folder / name, other.folder / name)

    ran = other.cali("up", "network", "--yes", CALI_SANDBOX_DIR=str(project.folder))

    assert ran.code == 0, ran.err
    assert ran.stages == {"network": "unchanged"}


def test_a_held_lock_names_its_holder_and_changes_nothing(project: Project) -> None:
    lock = {
        "ID": "7d1c5a52-0000-0000-0000-000000000000",
        "Operation": "OperationTypeApply",
        "Info": "",
        "Who": "mina@laptop",
        "Version": "1.11.4",
        "Created": "2026-03-01T12:00:00Z",
        "Path": f"{BUCKET}/{KEY}",
    }
    s3 = project.aws("s3")
    s3.put_object(Bucket=BUCKET, Key=f"{KEY}.tflock", Body=json.dumps(lock))

    ran = project.cali("up", "network", "--yes")

    assert ran.code == 1
    (network,) = ran.document["stages"]
    assert network["status"] == "failed"
    assert "mina@laptop" in network["error"]
    assert "force-unlock" in ran.err
    s3.delete_object(Bucket=BUCKET, Key=f"{KEY}.tflock")


def test_a_state_that_moved_elsewhere_is_not_lost(project: Project) -> None:
    project.settings(state={"backend": "local", "bucket": None})

    ran = project.cali("up", "network", "--yes")

    assert ran.code != 0
    assert "state" in ran.err
    assert (
        "vpc_id" in json.loads(project.aws("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read())["outputs"]
    )
