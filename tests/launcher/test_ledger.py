"""The ledger keeps its word with two commands at once and when asked for what is not there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel.config import RunConfig
from launcher.errors import LauncherError, UnknownRun
from launcher.ledger import Ledger, Run, SessionTaken, new_run


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def _run(book: Ledger, folder: Path, run_id: str = "quick-abcdef") -> Run:
    run = new_run(run_id, "local", "local", RunConfig(run_id, 100, 10), folder)
    book.add_run(run)
    return run


def _begin(book: Ledger, run: Run, after: int) -> int:
    return book.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=60,
        max_timesteps_at_risk=0,
        publish_interval_seconds=1,
        after=after,
    )


def test_the_newest_run_is_the_default(book: Ledger, tmp_path: Path) -> None:
    _run(book, tmp_path, "quick-first")
    _run(book, tmp_path, "quick-second")
    assert book.run().run_id == "quick-second"
    assert book.run("quick-first").run_id == "quick-first"


def test_an_unknown_run_is_refused_with_the_known_ones(book: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UnknownRun, match="push --quick"):
        book.run()
    _run(book, tmp_path, "quick-known")
    with pytest.raises(UnknownRun, match="quick-known"):
        book.run("no-such-run")


def test_of_many_commands_at_once_one_begins_the_session(book: Ledger, tmp_path: Path) -> None:
    run = _run(book, tmp_path)

    def begin(_: int) -> bool:
        try:
            _begin(Ledger(tmp_path / "ledger.sqlite"), run, after=0)
        except SessionTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 1
    assert [session.number for session in book.sessions(run.run_id)] == [1]


def test_known_timesteps_never_shrink(book: Ledger, tmp_path: Path) -> None:
    run = _run(book, tmp_path)
    _begin(book, run, after=0)
    book.update_session(run.run_id, 1, seen_timesteps=50, published_timesteps=40)
    book.update_session(run.run_id, 1, seen_timesteps=30, published_timesteps=45)
    (session,) = book.sessions(run.run_id)
    assert (session.seen_timesteps, session.published_timesteps) == (50, 45)


def test_a_first_session_that_never_started_leaves_no_run(book: Ledger, tmp_path: Path) -> None:
    run = _run(book, tmp_path)
    _begin(book, run, after=0)
    book.forget_session(run.run_id, 1)
    assert book.runs() == []


def test_configuration_comes_back_as_it_was(book: Ledger, tmp_path: Path) -> None:
    run = _run(book, tmp_path)
    assert book.run().config == RunConfig("quick-abcdef", 100, 10)
    assert book.run().config.digest == run.config.digest


def test_a_damaged_ledger_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LauncherError, match=r"ledger\.sqlite"):
        Ledger(tmp_path / "ledger.sqlite").runs()
