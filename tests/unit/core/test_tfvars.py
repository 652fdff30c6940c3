"""The variables file of a stack: exactly what it declares, private, and written at once."""

from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from cali_infra.core import assets, tfvars
from cali_infra.errors import PreconditionError, UsageError

STACK = """
# variable "commented" {}
// variable "also_commented" {
/* variable "in_a_block" {
} */
variable "name" {
  type        = string
  description = "A name, with variable \\"quoted\\" { inside"
}

variable "count_of" {
  type    = number
  default = 3
}

variable "nested" {
  type = object({
    default = optional(string, "x")
  })
  validation {
    condition     = var.nested.default == "variable \\"no\\" {"
    error_message = "no"
  }
}

variable "nothing" { default = null }

locals {
  text = <<-EOT
    variable "in_a_heredoc" {
      default = 1
    }
  EOT
  variable = { "x" = "variable" }
}

output "o" {
  value = var.name
}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "main.tf").write_text(STACK)
    (folder / "more.tf").write_text('variable "extra" {\n  type    = string\n  default = ""\n}\n')
    (folder / "notes.txt").write_text('variable "no_hcl" {}')
    return folder


def test_declared_are_the_variables_of_all_files_and_nothing_else(stack: Path) -> None:
    assert tfvars.declared_variables(stack) == ("count_of", "extra", "name", "nested", "nothing")
    assert tfvars.required_variables(stack) == ("name", "nested")


def test_only_declared_variables_are_rendered(stack: Path) -> None:
    secret = SecretStr("hidden")
    values = {"name": secret, "nested": {}, "undeclared": 1, "count_of": 4}
    rendered = tfvars.render(stack, values)
    assert rendered == {"count_of": 4, "name": secret, "nested": {}}
    assert "hidden" not in repr(rendered)


def test_a_variable_without_a_value_is_named(stack: Path) -> None:
    with pytest.raises(PreconditionError, match="network: no value for name, nested"):
        tfvars.render(stack, {"count_of": 1})


def test_the_file_is_private_whole_and_in_clear(tmp_path: Path) -> None:
    path = tmp_path / "stack" / "terraform.tfvars.json"
    tfvars.write(path, {"old": "x" * 10_000})
    tfvars.write(
        path,
        {
            "password": SecretStr("${a} %{b}"),
            "nested": {"key": [SecretStr("s"), ("t",), None, True, 1.5]},
            "until": date(2027, 1, 31),
            "set": {"b", "a"},
        },
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "password": "${a} %{b}",
        "nested": {"key": ["s", ["t"], None, True, 1.5]},
        "until": "2027-01-31",
        "set": ["a", "b"],
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["terraform.tfvars.json"]


def test_text_that_terraform_would_change_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the value of name"):
        tfvars.write(tmp_path / "x", {"name": ["\ud800"]})
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_no_value_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="name: object"):
        tfvars.encode({"name": object()})


def test_each_stack_of_this_cali_declares_what_every_stack_must() -> None:
    for folder in sorted(assets.folder("terraform").iterdir()):
        if folder.is_dir():
            declared = tfvars.declared_variables(folder)
            assert {"project", "environment", "region", "account_id"} <= set(declared), folder.name
