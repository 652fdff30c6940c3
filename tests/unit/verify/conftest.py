"""A whole platform for all tests of this folder; each puts back what it breaks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from whole import Whole


@pytest.fixture(scope="session")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    made = Whole(tmp_path_factory.mktemp("whole"))
    yield made
    made.close()


@pytest.fixture
def whole(_whole: Whole) -> Iterator[Whole]:
    yield _whole
    _whole.cloud.controls.clear()
    _whole.clusters.faults.clear()
    _whole.domains.faults.clear()
