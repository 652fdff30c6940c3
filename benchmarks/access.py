"""`grant-access` of one principal beside plain `terraform plan -out` and `terraform apply PLAN` of the same stack.

Both add one principal to a record of some size, in turns. The grant asks IAM and EKS, takes its turn, and reads
back what it did; the plain way does none of that.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rehearsal import cali, surroundings

SIZES = (10, 100, 500)
ROUNDS = 3
GOAL = 1.3
_STACK = ".cali/sandbox-default/terraform/access"


def run() -> None:
    """Bring a cluster up in a sandbox of its own, measure with a growing record, and take the sandbox away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        cali(project, "init", "--yes")
        try:
            cali(project, "--sandbox", "up", "--through", "access", "--yes")
            number = 0
            for size in SIZES:
                _fill(project, number, size)
                number = size
                pairs = []
                for _ in range(ROUNDS):
                    ours = _grant(project, number)
                    theirs = _plain(project, number + 1)
                    pairs.append((ours, theirs))
                    number += 2
                _tell(size, pairs)
        finally:
            cali(project, "--sandbox", "sandbox", "stop")


def _tell(size: int, pairs: list[tuple[float, float]]) -> None:
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"access: grant-access into a record of {size}: {ours:.1f} s, terraform plan -out and apply PLAN "
        f"{theirs:.1f} s, ratio {ratio:.2f} (goal at most {GOAL}; median of {ROUNDS} pairs)"
    )


def _fill(project: Path, present: int, size: int) -> None:
    team = project / "team.csv"
    arns = [_user(project, number) for number in range(present, size)]
    team.write_text("arn,level\n" + "".join(f"{arn},view\n" for arn in arns))
    cali(project, "--sandbox", "grant-access", "--from", str(team), "--yes")


def _grant(project: Path, number: int) -> float:
    arn = _user(project, number)
    started = time.perf_counter()
    cali(project, "--sandbox", "grant-access", arn, "--level", "view", "--yes")
    return time.perf_counter() - started


def _plain(project: Path, number: int) -> float:
    """One more principal in the rendered variables, by Terraform alone."""
    arn = _user(project, number)
    path = project / _STACK / "terraform.tfvars.json"
    variables = json.loads(path.read_text())
    variables["principals"][arn] = {**next(iter(variables["principals"].values())), "name": arn}
    path.write_text(json.dumps(variables))
    environ = surroundings(project)
    started = time.perf_counter()
    for words in (["plan", "-input=false", "-out=plan"], ["apply", "-input=false", "plan"]):
        subprocess.run(
            ["terraform", *words], cwd=project / _STACK, env=environ, check=True, stdout=subprocess.DEVNULL
        )
    return time.perf_counter() - started


def _user(project: Path, number: int) -> str:
    """A user of IAM; made where it is not there."""
    client = _iam(project)
    name = f"user-{number}"
    try:
        return str(client.create_user(UserName=name)["User"]["Arn"])
    except client.exceptions.EntityAlreadyExistsException:
        return str(client.get_user(UserName=name)["User"]["Arn"])


def _iam(project: Path) -> Any:
    import boto3

    environ = surroundings(project)
    return boto3.client(
        "iam",
        region_name=environ["AWS_REGION"],
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )
