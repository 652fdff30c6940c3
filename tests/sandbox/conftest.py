"""A project with a sandbox of its own, driven as a person drives it: by the command, in a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Every password of a test project holds this word: it must never be seen where it does not belong.
SENTINEL = "Sentinel-7Qx"
JIN = "arn:aws:iam::123456789012:user/jin"
MINA = "arn:aws:iam::123456789012:role/team/mina"


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str
    arguments: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def stages(self) -> dict[str, str]:
        """Status by stage."""
        return {stage["name"]: stage["status"] for stage in self.document["stages"]}


@dataclass
class Project:
    """A project folder; `ran` is everything that was run in it."""

    folder: Path
    environ: Mapping[str, str]
    ran: list[Ran] = field(default_factory=list)

    def cali(self, *arguments: str, timeout: float = 300, **environ: str) -> Ran:
        """Run `cali --sandbox --output json ARGUMENTS` to its end."""
        return self.finish(self.start(*arguments, **environ), timeout)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start the command and return it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "cali_infra", "--sandbox", "--output", "json", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 300) -> Ran:
        """Wait for a started command."""
        out, err = process.communicate(timeout=timeout)
        assert isinstance(process.args, list)
        ran = Ran(process.returncode, out, err, tuple(str(word) for word in process.args))
        self.ran.append(ran)
        return ran

    def interrupt(
        self, process: subprocess.Popen[str], when: Callable[[], bool], timeout: float = 120
    ) -> None:
        """Press Ctrl-C as soon as `when` holds."""
        end = time.monotonic() + timeout
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)

    @property
    def record(self) -> dict[str, Any]:
        """The record of the running sandbox."""
        found: dict[str, Any] = json.loads((self.folder / ".cali/sandbox/sandbox.json").read_text())
        return found

    @property
    def workspace(self) -> Path:
        return self.folder / ".cali/sandbox-default"

    def control(self, what: str, body: Mapping[str, Any]) -> None:
        """Turn one of the stand-in's switches."""
        request = urllib.request.Request(
            f"{self.record['aws_endpoint']}/_sandbox/{what}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def aws(self, service: str) -> Any:
        """A boto3 client for the sandbox's AWS, as its operator."""
        import boto3

        record = self.record
        return boto3.client(
            service,
            region_name=record["region"],
            endpoint_url=record["aws_endpoint"],
            aws_access_key_id=record["access_key_id"],
            aws_secret_access_key=record["secret_access_key"],
        )

    def hire(self) -> None:
        """Make Jin and Mina known to IAM: of an entry whose principal is not, verify warns."""
        iam = self.aws("iam")
        iam.create_user(UserName="jin")
        trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName="mina", Path="/team/", AssumeRolePolicyDocument=document)

    def kubectl(self, *arguments: str) -> Any:
        """What plain kubectl prints, as JSON, by the sandbox's own kubeconfig."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.record["kubeconfig"], *arguments, "-o", "json"],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def settings(self, **changes: Any) -> None:
        """Change keys of cali.yaml; a dict is merged into its section."""
        path = self.folder / "cali.yaml"
        settings = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            if isinstance(value, dict):
                settings[key] = {**settings.get(key, {}), **value}
            else:
                settings[key] = value
        path.write_text(yaml.safe_dump(settings))

    def secrets(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change secrets.yaml."""
        path = self.folder / "secrets.yaml"
        secrets = yaml.safe_load(path.read_text())
        change(secrets)
        path.write_text(yaml.safe_dump(secrets))


def _ssh_pair(host: str) -> dict[str, str]:
    """A key that OpenSSH reads, and known hosts with one of `host`."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())
    public = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
    return {"ssh_key": private.decode(), "known_hosts": f"{host} {public.decode()}"}


def plant_sentinels(secrets: dict[str, Any]) -> None:
    """Make every password one that is recognised wherever it turns up."""
    for section, keys in secrets.items():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if value and key != "fernet_key":
                secrets[section][key] = f"{SENTINEL}-{section}-{key}-Aa1$"
    secrets["hash_key"] = f"{SENTINEL}-hash_key"
    secrets["gitsync"] = {
        "url": "git@git.invalid:acme/dags.git",
        **_ssh_pair("git.invalid"),
    }
    secrets["principals"] = [
        {"arn": JIN, "name": "Jin", "level": "admin"},
        {"arn": MINA, "name": "Mina", "level": "view", "namespaces": ["logging"]},
    ]


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, terraform_environ: Mapping[str, str]
) -> Iterator[Project]:
    """A new project with sentinel passwords; its sandbox ends with the module."""
    environ = {
        name: value
        for name, value in terraform_environ.items()
        if not name.startswith(("AWS_", "CALI_", "TF_REATTACH"))
    }
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = Project(tmp_path_factory.mktemp("project"), environ)
    ran = found.cali("init", "--yes")
    assert ran.code == 0, ran.err
    found.secrets(plant_sentinels)
    yield found
    found.cali("sandbox", "stop")
