"""The command: what is wrong on the command line, its exit codes, its documents and its files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from whole import REGION, SENTINEL, Whole, secrets

from cali_infra.cli.app import run
from cali_infra.core.workspace import Owner, Workspace
from cali_infra.ui import UI

# Terraform as far as a look needs it: the state of a stack lies beside this program.
TERRAFORM = """\
#!{python}
import json, pathlib, sys
here = pathlib.Path.cwd()
command = sys.argv[1]
if command == "version":
    print(json.dumps({{"terraform_version": "1.11.4"}}))
elif command == "state":
    outputs = json.loads((pathlib.Path(__file__).parent / "outputs.json").read_text())
    stack = here.parents[1].name
    values = {{name: {{"value": value}} for name, value in outputs.get(stack, {{}}).items()}}
    print(json.dumps({{"version": 4, "serial": 1, "lineage": "a", "outputs": values, "resources": []}}))
elif command != "init":
    sys.exit(1)
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def statuses(self) -> dict[str, str]:
        return {check["id"]: check["status"] for check in self.document["checks"]}


Cali = Callable[..., Ran]


@pytest.fixture
def cali(tmp_path: Path) -> Cali:
    def invoke(*arguments: str, environ: dict[str, str] | None = None) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        ui = UI(
            stdin=io.StringIO(),
            stdout=out,
            stderr=err,
            environ={},
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 11, 23, 12, 0),
        )
        code = run(arguments, ui, environ or {}, tmp_path)
        return Ran(code, out.getvalue(), err.getvalue())

    return invoke


def revealed(value: Any) -> Any:
    """A model's values, secrets in clear."""
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: revealed(item) for key, item in value.items() if item is not None}
    return [revealed(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def project(tmp_path: Path, whole: Whole) -> dict[str, str]:
    """A project whose AWS is the stand-in's, with everything applied; the environment to run it in."""
    import yaml

    binary = tmp_path / "bin" / "terraform"
    binary.parent.mkdir()
    binary.write_text(TERRAFORM.format(python=sys.executable))
    binary.chmod(0o755)
    outputs = {name: stack.values for name, stack in whole.stacks.items()}
    (binary.parent / "outputs.json").write_text(json.dumps(outputs))
    settings = {"region": REGION, "terraform_binary": str(binary)}
    (tmp_path / "cali.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "secrets.yaml").touch(mode=0o600)
    (tmp_path / "secrets.yaml").write_text(yaml.safe_dump(revealed(secrets().model_dump())))
    workspace = Workspace(tmp_path / ".cali" / "default")
    workspace.create()
    workspace.claim(Owner(whole.cloud.account, REGION, whole.cloud.endpoint))
    return {**whole.kubectl_environ, **whole.environ}


class TestTheCommandLine:
    def test_an_unknown_check_is_told_with_the_nearest(self, cali: Cali) -> None:
        ran = cali("--output", "json", "verify", "eks", "serch.auth")
        assert ran.code == 2
        assert "did you mean 'search.auth'" in ran.document["error"]["message"]

    def test_a_wait_that_is_no_duration(self, cali: Cali) -> None:
        ran = cali("verify", "--wait", "soon")
        assert ran.code == 2
        assert "--wait: 'soon' is no duration" in ran.err

    def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(
        self, cali: Cali, tmp_path: Path
    ) -> None:
        ran = cali("verify", "--junit", str(tmp_path / "no" / "report.xml"))
        assert ran.code == 2
        assert "there is no folder" in ran.err
        ran = cali("verify", "--html", str(tmp_path))
        assert ran.code == 2
        assert "is a folder" in ran.err

    def test_without_settings_there_is_nothing_to_verify(self, cali: Cali) -> None:
        ran = cali("verify")
        assert ran.code == 2
        assert "cali init" in ran.err


class TestARun:
    def test_a_part_that_works(self, cali: Cali, project: dict[str, str]) -> None:
        ran = cali("--output", "json", "verify", "eks", "kubernetes.nodes", environ=project)
        assert ran.code == 0, ran.err
        assert ran.document["ok"]
        assert set(ran.statuses.values()) == {"pass"}
        # With what it needs.
        assert {"aws.identity", "kubernetes.api", "eks.addons"} <= set(ran.statuses)
        assert "drift.eks" not in ran.statuses

    def test_a_part_that_does_not_and_its_files(
        self, cali: Cali, project: dict[str, str], whole: Whole, tmp_path: Path
    ) -> None:
        issue = {"code": "Broken", "message": f"it says {SENTINEL}-master-Aa1$", "resourceIds": []}
        whole.cloud.controls.ail("addon", "coredns", {"status": "DEGRADED", "health": {"issues": [issue]}})
        xml, html = tmp_path / "report.xml", tmp_path / "report.html"
        ran = cali("verify", "eks", "--junit", str(xml), "--html", str(html), environ=project)
        assert ran.code == 1
        lines = ran.out.splitlines()
        assert lines[0] == "AWS"
        assert "fail: eks.addons: The add-ons are installed, ACTIVE and without issues" in lines
        assert lines[-2].strip().startswith("aws eks describe-addon")
        assert "1 failed" in lines[-1]
        root = ET.fromstring(xml.read_bytes())
        assert root.get("failures") == "1"
        assert b"eks.addons" in html.read_bytes() and b"cali-default" in html.read_bytes()
        for content in (ran.out, ran.err, xml.read_text(), html.read_text()):
            assert SENTINEL not in content
        assert "********" in ran.out and "********" in html.read_text()

    def test_without_a_terminal_what_costs_money_is_skipped_unless_it_is_approved(
        self, cali: Cali, project: dict[str, str], whole: Whole
    ) -> None:
        deep = ("--output", "json", "verify", "storage", "--deep")
        with whole.working():
            ran = cali(*deep, environ=project)
        assert ran.code == 0, ran.err
        assert (ran.statuses["deep.volume"], ran.statuses["deep.scale-up"]) == ("pass", "skip")
        (skipped,) = [one for one in ran.document["checks"] if one["id"] == "deep.scale-up"]
        assert skipped["detail"].startswith(
            "not approved (--yes approves it): deep.scale-up has the autoscaler add a node"
        )

        with whole.working():
            ran = cali(*deep, "--yes", environ=project)
        whole.resize(3)
        assert ran.statuses["deep.scale-up"] == "pass", ran.out

    def test_in_a_terminal_it_is_asked_once_and_before_anything_begins(
        self, tmp_path: Path, project: dict[str, str], whole: Whole
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        out, err = io.StringIO(), Terminal()
        ui = UI(
            stdin=Terminal("n\n"),
            stdout=out,
            stderr=err,
            environ={},
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 11, 23, 12, 0),
        )
        code = run(["--output", "json", "verify", "deep.scale-up", "--wait", "1s"], ui, project, tmp_path)
        assert code == 0
        assert err.getvalue().count("Run it? [y/N]") == 1
        statuses = {check["id"]: check["status"] for check in json.loads(out.getvalue())["checks"]}
        assert statuses["deep.scale-up"] == "skip"

    def test_deep_checks_run_only_when_they_are_asked_for(self, cali: Cali, project: dict[str, str]) -> None:
        ran = cali("--output", "json", "verify", "kubernetes.nodes", "storage", "--e2e", environ=project)
        assert not [name for name in ran.statuses if name.startswith("deep.")]

    def test_a_warning_fails_when_it_counts(self, cali: Cali, project: dict[str, str], whole: Whole) -> None:
        whole.cloud.controls.ail("nodegroup", "cali-default-nodes", {"version": "1.34"})
        assert cali("verify", "eks.node-groups", environ=project).code == 0
        ran = cali("--output", "json", "verify", "eks.node-groups", "--strict", environ=project)
        assert ran.code == 1
        assert ran.document["ok"] is False
        assert ran.statuses["eks.node-groups"] == "warn"

    def test_a_workspace_of_another_account_is_refused_before_anything_is_asked(
        self, cali: Cali, project: dict[str, str], tmp_path: Path
    ) -> None:
        record = tmp_path / ".cali" / "default" / "workspace.json"
        record.write_text(json.dumps({"account": "1", "region": REGION, "realm": "aws"}))
        ran = cali("--output", "json", "verify", "eks", environ=project)
        assert ran.code == 2
        assert ran.document["error"]["code"] == "wrong-target"

    def test_without_credentials_that_count_it_is_one_failure(
        self, cali: Cali, project: dict[str, str]
    ) -> None:
        ran = cali("--output", "json", "verify", environ={**project, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"})
        assert ran.code == 1
        assert [name for name, status in ran.statuses.items() if status == "fail"] == ["aws.identity"]
        assert set(ran.statuses.values()) == {"fail", "skip"}
        (first, second, *_) = ran.document["checks"]
        assert "aws sts get-caller-identity" in first["remedy"]
        assert second["detail"] == "aws.identity failed"


def test_a_call_that_hangs_keeps_no_process_alive() -> None:
    script = (
        "import sys, threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "sys.argv = ['cali', '--version']\n"
        "from cali_infra.cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("cali ")
