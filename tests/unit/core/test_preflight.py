"""What stops a run before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cali_infra.core.preflight import check_address, check_kubectl
from cali_infra.core.settings import Settings
from cali_infra.errors import AwsError, PreconditionError, SettingsError


def test_an_address_that_is_let_in_passes() -> None:
    check_address(Settings(allowed_cidrs=["198.51.100.0/24", "203.0.113.7/32"]), lambda: "203.0.113.7")


@pytest.mark.parametrize("allowed", [[], ["198.51.100.0/24"]])
def test_an_address_that_is_not_let_in_stops_the_run(allowed: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        check_address(Settings(allowed_cidrs=allowed), lambda: "203.0.113.7")

    (problem,) = caught.value.problems
    assert (problem.file, problem.key, problem.example) == ("cali.yaml", "allowed_cidrs", "[203.0.113.7/32]")
    assert "203.0.113.7" in problem.problem


def test_an_address_that_nobody_tells_stops_the_run() -> None:
    def silent() -> str:
        raise AwsError("no answer")

    with pytest.raises(PreconditionError, match="no answer"):
        check_address(Settings(), silent)


def test_a_missing_kubectl_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError) as caught:
        check_kubectl(str(tmp_path))

    assert "kubectl is not installed" in str(caught.value)
    assert "kubernetes.io" in caught.value.remedy


def test_kubectl_on_the_path_is_enough(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.touch(mode=0o755)

    check_kubectl(str(tmp_path))
