"""What every test may use: where Terraform finds its providers on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture(scope="session")
def terraform_environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment for Terraform: a local mirror of the providers where there is one."""
    import terraform_mirror

    environ = dict(os.environ)
    mirror = terraform_mirror.find(environ)
    if mirror is not None:
        config = tmp_path_factory.mktemp("terraform") / "terraformrc"
        config.write_text(terraform_mirror.configuration(mirror))
        environ["TF_CLI_CONFIG_FILE"] = str(config)
    return environ
