"""The door to kustomize: the real kubectl where there is one, and scripts in its place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cali_infra.adapters.kustomize import Kustomize
from cali_infra.errors import KustomizeError, PreconditionError


def script(folder: Path, body: str) -> str:
    path = folder / "kubectl-of-the-test"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_the_real_kubectl_renders_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        "namespace: here\nconfigMapGenerator:\n- name: words\n  literals: [greeting=안녕하세요]\n"
    )
    (found,) = Kustomize(environ=os.environ).render(tmp_path)
    assert found["kind"] == "ConfigMap"
    assert found["metadata"]["namespace"] == "here"
    assert found["metadata"]["name"].startswith("words-")
    assert found["data"] == {"greeting": "안녕하세요"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_what_kustomize_says_reaches_the_user(tmp_path: Path) -> None:
    with pytest.raises(KustomizeError, match="unable to find one of"):
        Kustomize(environ=os.environ).render(tmp_path)


def test_a_missing_kubectl_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="no-such-kubectl cannot be run") as caught:
        Kustomize(str(tmp_path / "no-such-kubectl"), environ={}).render(tmp_path)
    assert "install kubectl" in caught.value.remedy


def test_kubectl_is_looked_for_on_the_path_that_is_handed_in(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError):
        Kustomize("kubectl", environ={"PATH": str(tmp_path)}).render(tmp_path)


def test_the_child_sees_the_environment_that_is_handed_in_and_no_other(tmp_path: Path) -> None:
    binary = script(tmp_path, 'echo "kind: $WHO$HOME"')
    assert Kustomize(binary, environ={"WHO": "me"}).render(tmp_path) == [{"kind": "me"}]


def test_several_documents_and_empty_ones(tmp_path: Path) -> None:
    binary = script(tmp_path, "printf 'kind: A\\n---\\n---\\nkind: B\\n'")
    assert Kustomize(binary, environ={}).render(tmp_path) == [{"kind": "A"}, {"kind": "B"}]


def test_output_that_is_no_yaml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KustomizeError, match="did not print YAML"):
        Kustomize(script(tmp_path, "echo '{'"), environ={}).render(tmp_path)


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    binary = script(tmp_path, "exec /bin/sleep 30")
    with pytest.raises(KustomizeError, match="did not end within"):
        Kustomize(binary, environ={}, timeout=0.2).render(tmp_path)
