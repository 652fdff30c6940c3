"""The stacks under the real Terraform, with no AWS at all: their form, and their plans in `hcl/*.tftest.hcl`."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cali_infra.sandbox.helm.standin import HelmStandIn

pytestmark = pytest.mark.sandbox

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
PLANS = Path(__file__).parent / "hcl"
STACKS = ("network", "eks", "search", "access", "autoscaler", "services")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Providers from a mirror where there is one, and the Helm provider from the stand-in."""
    mirror = runpy.run_path(str(ROOT / "scripts" / "terraform_mirror.py"))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    # Nothing is to be called; if something were, it would have to fail.
    environ |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}
    # Decoding the AWS provider's schema is mostly garbage collection.
    environ |= {"GOGC": "400"}
    if folder := mirror["find"](os.environ):
        config = tmp_path_factory.mktemp("terraform") / "terraformrc"
        config.write_text(mirror["configuration"](folder))
        environ["TF_CLI_CONFIG_FILE"] = str(config)
    elif given := os.environ.get("TF_CLI_CONFIG_FILE"):
        environ["TF_CLI_CONFIG_FILE"] = given
    standin = HelmStandIn(environ, lambda: datetime.now(UTC))
    yield {**environ, "TF_REATTACH_PROVIDERS": standin.start(), "CHECKPOINT_DISABLE": "1"}
    standin.stop()


@pytest.fixture(scope="module")
def terraform(environ: Mapping[str, str]) -> Run:
    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="module")
def folder(terraform: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An initialised copy of a stack, with its plans beside it."""
    copies: dict[str, Path] = {}

    def copy(stack: str) -> Path:
        if stack not in copies:
            target = tmp_path_factory.mktemp(stack)
            shutil.copytree(TERRAFORM / stack, target, dirs_exist_ok=True)
            shutil.copy(PLANS / f"{stack}.tftest.hcl", target)
            done = terraform(target, "init", "-backend=false", "-input=false", "-no-color")
            assert done.returncode == 0, done.stdout + done.stderr
            copies[stack] = target
        return copies[stack]

    return copy


def test_every_file_is_formatted(terraform: Run) -> None:
    for place in (TERRAFORM, PLANS):
        done = terraform(place, "fmt", "-check", "-diff", "-recursive", "-no-color")
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_is_formatted(terraform: Run, tmp_path: Path) -> None:
    copy = tmp_path / "terraform.tfvars"
    copy.write_text((ROOT / "terraform.tfvars.example").read_text())
    done = terraform(tmp_path, "fmt", "-check", "-diff", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_is_valid_and_warns_of_nothing(
    stack: str, folder: Callable[[str], Path], terraform: Run
) -> None:
    verdict = json.loads(terraform(folder(stack), "validate", "-json").stdout)
    assert verdict["valid"], verdict["diagnostics"]
    assert not verdict["diagnostics"]


@pytest.mark.parametrize("stack", STACKS)
def test_the_plans_of_a_stack_are_as_written(
    stack: str, folder: Callable[[str], Path], terraform: Run
) -> None:
    done = terraform(folder(stack), "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
