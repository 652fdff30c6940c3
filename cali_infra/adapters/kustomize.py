"""The one door to kustomize: it renders a folder of manifests by `kubectl kustomize`.

What is in the folder and what becomes of the objects is core's business.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cali_infra.errors import KustomizeError, PreconditionError

TIMEOUT = 60.0


class Kustomize:
    """Runs the kubectl named `binary` with exactly the environment `environ`."""

    def __init__(
        self, binary: str = "kubectl", *, environ: Mapping[str, str], timeout: float = TIMEOUT
    ) -> None:
        self._binary = binary
        self._environ = environ
        self._timeout = timeout

    def render(self, folder: Path) -> list[dict[str, Any]]:
        """Every object that the folder's kustomization makes, as the API takes it.

        Raises PreconditionError when there is no kubectl, and KustomizeError with its words when it refuses.
        """
        import yaml

        # libyaml, where PyYAML was built with it, is ten times as fast.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            found = list(yaml.load_all(self._run(folder), Loader=loader))
        except yaml.YAMLError as error:
            raise KustomizeError(
                f"{folder}: `{self._binary} kustomize` did not print YAML: {error}",
                remedy=f"look at what it prints: {self._binary} kustomize {folder}",
            ) from error
        return [obj for obj in found if obj]

    def _run(self, folder: Path) -> str:
        command = [self._binary, "kustomize", str(folder)]
        try:
            done = subprocess.run(
                command,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=self._timeout,
                check=False,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise PreconditionError(
                f"{self._binary} cannot be run: cali renders the manifests with `kubectl kustomize`",
                remedy="install kubectl (https://kubernetes.io/docs/tasks/tools/), then run the command again",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise KustomizeError(
                f"`{' '.join(command)}` did not end within {self._timeout:.0f} seconds",
                remedy="a remote base in the kustomization cannot be reached, perhaps; run it by hand",
            ) from error
        if done.returncode != 0:
            words = done.stderr.strip() or f"it ended with {done.returncode} and said nothing"
            raise KustomizeError(
                f"`{' '.join(command)}` failed: {words.removeprefix('error: ')}",
                remedy="correct the kustomization, then run the command again",
            )
        return done.stdout
