"""What cali writes into `terraform.tfvars.json` is what the real Terraform works with, whatever it is."""

from __future__ import annotations

import json
import stat
import subprocess
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from cali_infra.core import tfvars
from cali_infra.core.settings import load_settings

pytestmark = pytest.mark.sandbox

STACK = """
variable "texts" {
  type = map(string)
}
variable "password" {
  type      = string
  sensitive = true
}
variable "principals" {
  type = map(object({
    name       = string
    namespaces = list(string)
    until      = optional(string)
  }))
}
variable "rest" {
  type    = any
  default = null
}
output "all" {
  sensitive = true
  value = {
    texts      = var.texts
    password   = var.password
    principals = var.principals
    rest       = var.rest
  }
}
"""

# Pieces that mean something to HCL, JSON, YAML or a shell, between any other characters. Python's and
# Terraform's tables of Unicode differ in what is unassigned yet (Cn); lone surrogates (Cs) are refused.
PIECES = (
    *("${", "%{", "$${", "%%{", "${var.x}", "%{ if true }", "}", '"', "\\", "\\u0041", "\n", "\r\n", "\t"),
    *("<<EOT\n", "EOT", "#", "//", "/*", "$(id)", "`id`", "'", "null", "true", "1e5", "1.30", "@", "*"),
    *("\x00", "\x07", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\u202e", "\ufffe"),
    *(
        "\ud55c\uad6d\uc5b4",
        "\uc9c0\uc6b0",
        "\U0001f680",
        "\U0001f469\u200d\U0001f4bb",
        "\U0001f1f0\U0001f1f7",
    ),
    *("\u1112\u1161\u11ab", "e\u0301", "\u212b", "\ufb01"),
)
texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=8)),
    max_size=6,
).map("".join)


class Terraform:
    """The real program over one folder; cali's own door to it has its own tests."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        (folder / "main.tf").write_text(STACK)
        self.run("init")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def receives(self, values: Mapping[str, object]) -> Any:
        """What the stack's output says that the variables hold."""
        path = self.folder / "terraform.tfvars.json"
        tfvars.write(path, tfvars.render(self.folder, values))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        self.run("apply", "-input=false", "-auto-approve", "-no-color")
        return json.loads(self.run("output", "-json", "all"))


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory, terraform_environ: Mapping[str, str]) -> Terraform:
    return Terraform(tmp_path_factory.mktemp("stack"), terraform_environ)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_every_piece_by_itself(terraform: Terraform) -> None:
    values = {
        "texts": {f"t{number}": piece for number, piece in enumerate(PIECES)},
        "password": SecretStr("".join(PIECES)),
        "principals": {piece: {"name": piece, "namespaces": [piece]} for piece in PIECES},
    }
    found = terraform.receives(values)
    assert found["texts"] == {f"t{number}": nfc(piece) for number, piece in enumerate(PIECES)}
    assert found["password"] == nfc("".join(PIECES))
    assert found["principals"] == {
        nfc(piece): {"name": nfc(piece), "namespaces": [nfc(piece)], "until": None} for piece in PIECES
    }


# Each example is a whole run of Terraform, so it holds many values.
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(texts, min_size=20, max_size=60),
    names=st.lists(texts, max_size=20),
    password=texts,
    rest=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_value_arrives_unchanged(
    terraform: Terraform, values: list[str], names: list[str], password: str, rest: Any
) -> None:
    given_ = {
        "texts": {f"t{number}": value for number, value in enumerate(values)},
        "password": SecretStr(password),
        "principals": {name: {"name": name, "namespaces": [name, "x"]} for name in names},
        "rest": rest,
        "not_declared": "left out",
    }
    found = terraform.receives(given_)
    assert found["texts"] == {f"t{number}": nfc(value) for number, value in enumerate(values)}
    assert found["password"] == nfc(password)
    assert set(found["principals"]) == {nfc(name) for name in names}
    assert found["rest"] == _normal(rest)


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return nfc(value)
    if isinstance(value, dict):
        return {nfc(key): _normal(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_normal(entry) for entry in value]
    return value


def test_what_stands_in_cali_yaml_is_what_terraform_gets(terraform: Terraform, tmp_path: Path) -> None:
    tags = {"owner": "\uc9c0\uc6b0 ${var.x} %{if}", "decomposed": "\u1112\u1161\u11ab", "quote": '"\\ \n'}
    (tmp_path / "cali.yaml").write_text("tags: " + json.dumps(tags))
    loaded = load_settings(tmp_path, {}).tags
    found = terraform.receives({"texts": loaded, "password": "x", "principals": {}})
    assert found["texts"] == loaded
