"""The script that finds a provider mirror: where it looks, what it writes, and that none is no error."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "terraform_mirror.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("terraform_mirror", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("terraform_mirror", module)
    spec.loader.exec_module(module)
    return module


def mirror(folder: Path, *providers: str) -> Path:
    for provider in providers:
        (folder / "registry.terraform.io" / provider / "1.0.0").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("place", ["", "plugins", "terraform/plugins"])
def test_a_mirror_is_found_at_a_root_and_up_to_two_levels_below(
    script: ModuleType, tmp_path: Path, place: str
) -> None:
    wanted = mirror(tmp_path / "opt" / place, "hashicorp/aws")
    (tmp_path / "opt" / "another").mkdir()
    assert script.find({}, [tmp_path / "missing", tmp_path / "opt"]) == wanted


def test_a_mirror_without_the_aws_provider_is_passed_over(script: ModuleType, tmp_path: Path) -> None:
    mirror(tmp_path / "a", "hashicorp/random")
    wanted = mirror(tmp_path / "b", "hashicorp/aws")
    assert script.find({}, [tmp_path]) == wanted


def test_the_environment_names_the_mirror_or_the_registry_folder_in_it(
    script: ModuleType, tmp_path: Path
) -> None:
    wanted = mirror(tmp_path / "mine", "hashicorp/aws")
    for named in (wanted, wanted / "registry.terraform.io"):
        assert script.find({"CALI_TERRAFORM_MIRROR": str(named)}, []) == wanted


def test_the_configuration_takes_what_is_held_and_the_rest_directly(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = mirror(tmp_path / "m", "hashicorp/aws", "hashicorp/random")
    written = tmp_path / "new" / "terraformrc"
    assert script.main(["--config", str(written)], {"CALI_TERRAFORM_MIRROR": str(wanted)}) == 0
    assert capsys.readouterr().out == f"{wanted}\n"
    text = written.read_text()
    held = '["registry.terraform.io/hashicorp/aws", "registry.terraform.io/hashicorp/random"]'
    assert f'path    = "{wanted}"' in text
    assert text.count(held) == 2


def test_no_mirror_prints_and_writes_nothing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "ROOTS", (str(tmp_path),))
    written = tmp_path / "terraformrc"
    assert script.main(["--config", str(written)], {}) == 0
    assert capsys.readouterr().out == ""
    assert not written.exists()
