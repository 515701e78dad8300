"""Where the training extra is absent, what trains is skipped, by rule and not by a list.

A test is skipped where it imports what is not there, where the product says that the extra is missing,
and where only its processes train: that nothing here can see, so it has the mark `trains`, or gets a session
from a fixture that asks for the one of that name.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

from launcher import training_extra
from launcher.errors import TrainingMissing

ABSENT = training_extra.missing((*training_extra.PACKAGES, "numpy"))
REASON = f"trains, and {', '.join(ABSENT)} cannot be imported here"
_NAMES = "|".join(ABSENT)
_NOT_THERE = re.compile(rf"No module named '({_NAMES})'|\b({_NAMES})(, \w+)* cannot be imported here")
"""What Python says, and what the product says in a process of the test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests whose processes train: nothing in this one tells."""
    if ABSENT:
        for item in items:
            if item.get_closest_marker("trains"):
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def trains() -> None:
    """What a fixture asks for whose processes train."""
    if ABSENT:
        pytest.skip(REASON)


@pytest.fixture(autouse=True)
def _training_is_skipped_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    missing, require = training_extra.missing, training_extra.require

    def require_or_skip(*arguments: Any, **options: Any) -> None:
        try:
            require(*arguments, **options)
        except TrainingMissing:
            if training_extra.missing is missing:  # else it is this that the test is about
                pytest.skip(REASON)
            raise

    if ABSENT:
        monkeypatch.setattr(training_extra, "require", require_or_skip)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a module that imports what is not there."""
    return _skipped((yield), collector.path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a test that does so itself."""
    return _skipped((yield), item.path)


def _skipped(report: Any, path: Any) -> Any:
    if ABSENT and report.failed and _NOT_THERE.search(str(report.longrepr)):
        report.outcome, report.longrepr = "skipped", (str(path), 0, f"Skipped: {REASON}")
    return report
