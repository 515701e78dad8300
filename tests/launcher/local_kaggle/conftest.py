"""An embedded Kaggle for one test: started in its folder, with short delays, stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.local_kaggle.service import LocalKaggle
from tests.limits import limit_s

from .callers import FAST, Caller
from .plain_clients import Clients


@pytest.fixture
def local_kaggle(tmp_path: Path) -> Iterator[LocalKaggle]:
    service = LocalKaggle(tmp_path / "local-kaggle")
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(**FAST)
    yield service
    service.stop()


@pytest.fixture
def call(local_kaggle: LocalKaggle) -> Caller:
    return Caller(local_kaggle)


@pytest.fixture
def plain(local_kaggle: LocalKaggle, tmp_path: Path) -> Clients:
    """The unmodified clients."""
    return Clients(local_kaggle, tmp_path / "home")
