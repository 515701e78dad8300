"""No test depends on a quiet machine, and none leaves a process behind, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.limits import limit_s

pytest_plugins = ["tests.without_training"]
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test that has no limit of its own the one of pyproject.toml, stretched."""
    longest_s = limit_s(float(config.getini("timeout")))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(longest_s))


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process that ends whatever these tests started, once this process is no more."""
    folder = str(tmp_path_factory.getbasetemp())
    os.environ["TESTS_FOLDER"] = folder  # handed down: all that is started from here names it
    reaper = Path(__file__).with_name("reaper.py")
    command = [sys.executable, str(reaper), folder, str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    yield
    assert process.stdin is not None
    process.stdin.close()
    process.wait(limit_s(30))
