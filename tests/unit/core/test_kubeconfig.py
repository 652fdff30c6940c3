"""A context for kubectl: what it is made of, and what of another's is never changed unasked."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cali_infra.adapters.aws import ClusterDescription
from cali_infra.adapters.kubeconfig_file import KubeconfigFile
from cali_infra.adapters.kubeconfig_text import Kubeconfig
from cali_infra.core import exec_credential
from cali_infra.core import kubeconfig as core
from cali_infra.errors import RefusedError

ARN = "arn:aws:eks:ap-northeast-2:123456789012:cluster/cali-default"
ENTRY = f"cali:{ARN}"
CLUSTER = ClusterDescription("cali-default", ARN, "ACTIVE", "1.35", "https://ours", "Q0E=", ())
PLUGIN = exec_credential.plugin("cali-default", "ap-northeast-2")
OURS = core.context_of(CLUSTER, PLUGIN)
LINK = {"cluster": ENTRY, "user": ENTRY}
# As the AWS CLI writes it.
AWS_CLI = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": ARN, "cluster": {"certificate-authority-data": "Q0E=", "server": "https://ours"}}],
    "users": [{"name": ARN, "user": {"exec": {"command": "aws", "args": ["eks", "get-token"]}}}],
    "contexts": [{"name": ARN, "context": {"cluster": ARN, "user": ARN}}],
    "current-context": ARN,
    "preferences": {"colors": True},
}


def config(data: dict[str, Any] | None = None) -> Kubeconfig:
    return Kubeconfig.parse(yaml.safe_dump(data) if data else "", "config")


def merged(data: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return core.merge(config(data), OURS, **options).data


def test_a_context_by_itself() -> None:
    assert merged() == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": ENTRY,
                "cluster": {"server": "https://ours", "certificate-authority-data": "Q0E="},
            }
        ],
        "users": [{"name": ENTRY, "user": {"exec": PLUGIN}}],
        "contexts": [{"name": "cali-default", "context": LINK}],
        "current-context": "cali-default",
    }


def test_the_credential_is_this_very_cali_and_carries_no_secret() -> None:
    assert PLUGIN["command"] == sys.executable
    assert PLUGIN["args"][-5:] == ["token", "--cluster", "cali-default", "--region", "ap-northeast-2"]
    # kubectl hands the terminal on, for a profile that asks for a code.
    assert PLUGIN["interactiveMode"] == "IfAvailable"
    assert "env" not in PLUGIN
    team = exec_credential.plugin("c", "r", "team")
    assert team["args"][-2:] == ["--profile", "team"]
    sandbox = exec_credential.plugin("c", "r", environ={"AWS_ACCESS_KEY_ID": "AKIA"})
    assert sandbox["env"] == [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}]
    assert sandbox["interactiveMode"] == "Never"


def test_a_folder_that_holds_a_module_of_the_same_name_cannot_get_in(tmp_path: Path) -> None:
    """kubectl runs the credential wherever people run kubectl, in a clone of somebody's repository too."""
    import subprocess

    import cali_infra

    (tmp_path / "cali_infra").mkdir()
    (tmp_path / "cali_infra" / "__init__.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    command, arguments = exec_credential.words("cali-default", "ap-northeast-2")
    done = subprocess.run(
        [command, *arguments],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(cali_infra.__file__).parent.parent),
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert '"ExecCredential"' in done.stdout


def test_the_aws_cli_s_own_context_for_the_same_cluster_stays() -> None:
    found = merged(AWS_CLI)
    for section in ("clusters", "users", "contexts"):
        assert found[section][0] == AWS_CLI[section][0]
        assert len(found[section]) == 2
    assert found["preferences"] == {"colors": True}
    assert found["current-context"] == "cali-default"


def test_without_switching_the_current_context_stays() -> None:
    assert merged(AWS_CLI, switch=False)["current-context"] == ARN
    assert "current-context" not in merged(switch=False)


def test_what_is_there_already_is_not_written_again() -> None:
    once = core.merge(config(AWS_CLI), OURS)
    assert core.merge(once, OURS) is once
    # kubectl sorts keys and writes out what it takes for granted, when it changes the file.
    data = yaml.safe_load(once.text)
    data["users"][1]["user"]["exec"] |= {"provideClusterInfo": False, "env": None}
    data["clusters"].reverse()
    by_kubectl = config(data)
    assert core.merge(by_kubectl, OURS) is by_kubectl


def test_what_people_added_to_ours_stays() -> None:
    data = merged()
    data["clusters"][0]["cluster"] |= {"proxy-url": "http://bastion:3128", "extensions": []}
    data["users"][0]["user"]["exec"]["env"] = [{"name": "AWS_PROFILE", "value": "mine"}]
    data["contexts"][0]["context"]["namespace"] = "airflow"
    data["users"][0]["user"]["exec"]["command"] = "/an/older/python"
    found = merged(data)
    assert found["clusters"] == data["clusters"]
    assert found["contexts"] == data["contexts"]
    plugin = found["users"][0]["user"]["exec"]
    assert plugin["command"] == sys.executable
    assert plugin["env"] == [{"name": "AWS_PROFILE", "value": "mine"}]


def test_a_namespace_that_is_asked_for_takes_the_place_of_the_other() -> None:
    once = core.merge(config(), replace(OURS, namespace="airflow"))
    assert once.body("contexts", "cali-default") == {**LINK, "namespace": "airflow"}
    again = core.merge(once, replace(OURS, namespace="logging"))
    assert again.body("contexts", "cali-default") == {**LINK, "namespace": "logging"}
    assert core.merge(again, OURS) is again


def test_a_cluster_that_was_made_anew_is_updated() -> None:
    once = core.merge(config(), OURS)
    data = yaml.safe_load(once.text)
    data["clusters"][0]["cluster"] |= {"insecure-skip-tls-verify": True, "certificate-authority": "/old.pem"}
    anew = replace(OURS, server="https://anew", ca="TkVX")
    found = core.merge(config(data), anew)
    # What would contradict the authority goes: kubectl refuses both together.
    assert found.body("clusters", ENTRY) == {
        "server": "https://anew",
        "certificate-authority-data": "TkVX",
    }


@pytest.mark.parametrize(
    "link",
    [
        {"cluster": "home", "user": "me"},
        {"cluster": ENTRY, "user": "me"},
        {"cluster": ENTRY.replace("123456789012", "999999999999"), "user": ENTRY},
        {},
    ],
)
def test_another_s_context_of_the_same_name_is_refused_unless_asked_for(link: dict[str, str]) -> None:
    data = {**AWS_CLI, "contexts": [{"name": "cali-default", "context": {**link, "namespace": "theirs"}}]}
    with pytest.raises(RefusedError, match="config has another context cali-default") as caught:
        merged(data)
    assert "--name" in caught.value.remedy
    assert "--overwrite" in caught.value.remedy
    found = merged(data, overwrite=True)
    assert found["contexts"] == [{"name": "cali-default", "context": LINK}]
    # Only the context was asked for.
    assert found["users"][0] == AWS_CLI["users"][0]
    assert core.merge(config(data), replace(OURS, name="mine")).current == "mine"


def test_a_user_of_ours_that_somebody_made_another_is_refused() -> None:
    data = merged()
    data["users"][0]["user"] = {"token": "theirs"}
    with pytest.raises(RefusedError, match="does not run cali any more"):
        merged(data)
    assert merged(data, overwrite=True)["users"][0]["user"] == {"exec": PLUGIN}


def test_a_file_that_kubectl_reads_later_is_not_hidden_from_it(tmp_path: Path) -> None:
    first, second, broken = tmp_path / "first", tmp_path / "second", tmp_path / "broken"
    theirs = {"contexts": [{"name": "cali-default", "context": {"cluster": "home", "user": "me"}}]}
    second.write_text(yaml.safe_dump(theirs))
    with pytest.raises(RefusedError, match=f"{second} has another context"):
        core.write(KubeconfigFile(first), OURS, others=[second])
    assert not first.exists()
    broken.write_text("{")
    written = core.write(
        KubeconfigFile(first), OURS, others=[second, broken, tmp_path / "no"], overwrite=True
    )
    assert written.changed
    (warning,) = written.warnings
    assert f"{broken}, line 1" in warning
    assert yaml.safe_load(second.read_text()) == theirs


def test_the_sandbox_s_own_kubeconfig_is_made_of_the_same() -> None:
    one = core.Context("one", "one", "https://one", "Q0E=", PLUGIN)
    two = core.Context("two", "two", "https://two", "Q0E=", PLUGIN)
    found = core.document([one, two])
    assert found["current-context"] == "two"
    parsed = Kubeconfig.parse(yaml.safe_dump(found), "config")
    assert core.merge(parsed, two) is parsed
