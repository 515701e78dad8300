"""The ledger keeps its word with two commands at once and when asked for what is not there."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract.config import RunConfig
from launcher.errors import AmbiguousRun, LauncherError, UnknownRun
from launcher.runs import ledger, migrations
from launcher.runs.ledger import Ledger, SessionTaken
from launcher.runs.records import Relay, Run, new_run


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


def test_without_a_name_the_newest_run_of_this_folder_is_meant_and_no_other(book: Ledger, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder, name in ((a, "quick-first"), (a, "quick-second"), (b, "quick-other"), (a / "below", "quick-below")):
        _run(book, folder, name)
    assert book.run(folder=a).run_id == "quick-second"
    assert book.run(folder=b).run_id == "quick-other"
    for folder in (tmp_path, b / "below", a / "runs"):
        with pytest.raises(UnknownRun, match=rf"quick-below  of {a / 'below'}\n  quick-other  of {b}\n"):
            book.run(folder=folder)


def test_the_present_folder_is_the_one_that_is_meant(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    _run(book, tmp_path / "a", "quick-first")
    _run(book, tmp_path, "quick-second")
    monkeypatch.chdir(tmp_path / "link")
    assert book.run().run_id == "quick-first"


NAMES = st.text("ab-", min_size=1, max_size=4)


@given(known=st.lists(NAMES, unique=True, max_size=8), name=NAMES)
def test_a_name_means_itself_or_the_only_one_that_begins_so(known: list[str], name: str) -> None:
    runs = [new_run(f"r{one}", "local", "local", RunConfig("quick-abcdef", 100, 10), Path("/f")) for one in known]
    asked = f"r{name}"
    begun = [run for run in runs if run.run_id.startswith(asked)]
    if name in known:
        assert ledger._named(asked, runs).run_id == asked
    elif len(begun) == 1:
        assert ledger._named(asked, runs) is begun[0]
    else:
        with pytest.raises(AmbiguousRun if begun else UnknownRun) as refused:
            ledger._named(asked, runs)
        assert all(run.run_id in str(refused.value) for run in begun)
        assert isinstance(refused.value, AmbiguousRun) == bool(begun)


def test_no_letters_at_all_mean_no_run(book: Ledger, tmp_path: Path) -> None:
    _run(book, tmp_path)
    with pytest.raises(UnknownRun):
        book.run("")


def test_a_run_that_is_written_alike_is_proposed(book: Ledger, tmp_path: Path) -> None:
    _run(book, tmp_path, "baseline-abcdef")
    with pytest.raises(UnknownRun, match=r"Did you mean baseline-abcdef\?"):
        book.run("basline-abcdef")


def test_note_and_tags_come_back_and_change_apart(book: Ledger, tmp_path: Path) -> None:
    config = RunConfig("quick-abcdef", 100, 10)
    book.add_run(new_run("quick-abcdef", "local", "local", config, tmp_path, note="ü, 'quoted'", tags=["a", "b", "a"]))
    assert (book.run("quick").note, book.run("quick").tags) == ("ü, 'quoted'", ("a", "b"))
    book.describe_run("quick-abcdef", tags=["c"])
    assert (book.run("quick").note, book.run("quick").tags) == ("ü, 'quoted'", ("c",))
    book.describe_run("quick-abcdef", note="")
    assert (book.run("quick").note, book.run("quick").tags) == ("", ("c",))


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
    assert book.run("quick-abcdef").config == RunConfig("quick-abcdef", 100, 10)
    assert book.run("quick-abcdef").config.digest == run.config.digest


def test_a_damaged_ledger_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LauncherError, match=r"ledger\.sqlite"):
        Ledger(tmp_path / "ledger.sqlite").runs()


def test_a_ledger_of_the_first_version_keeps_what_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        migrations._m001_initial(db)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO runs VALUES ('quick-old', 'kaggle', 'alice', 1.0, '/x', '{}')")
        db.execute(
            "INSERT INTO sessions (run_id, number, device, accelerator, max_seconds, max_timesteps_at_risk,"
            " publish_interval_seconds, pushed, published_timesteps)"
            " VALUES ('quick-old', 1, 'cpu', '', 60, 0, 1, 2, 40)"
        )
    book = Ledger(path)
    old = book.run("quick-old")
    assert (old.username, old.note, old.tags) == ("alice", "", ())
    (session,) = book.sessions("quick-old")
    assert (session.published_timesteps, session.target, session.code_digest) == (40, "kaggle", "")
    book.update_session("quick-old", 1, trains_on="cuda")
    assert book.sessions("quick-old")[0].trains_on == "cuda"


@pytest.mark.parametrize(
    ("sentence", "rule", "message"),
    [
        ("", "", ""),
        ("STOP flood: 120 lines: much", "flood", "120 lines: much"),
        ("STOP unhealthy (one_action): x", "unhealthy (one_action)", "x"),
    ],
)
def test_an_alert_that_was_a_sentence_has_its_rule_apart(
    tmp_path: Path, sentence: str, rule: str, message: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for migration in migrations._MIGRATIONS[:3]:
            migration(db)
        db.execute("PRAGMA user_version = 3")
        db.execute("INSERT INTO runs VALUES ('quick-old', 'kaggle', 'alice', 1.0, '/x', '{}')")
        db.execute(
            "INSERT INTO sessions (run_id, number, device, accelerator, max_seconds, max_timesteps_at_risk,"
            " publish_interval_seconds, pushed, alert) VALUES ('quick-old', 1, 'cpu', '', 60, 0, 1, 2, ?)",
            (sentence,),
        )
    (session,) = Ledger(path).sessions("quick-old")
    assert (session.alert_rule, session.alert_message) == (rule, message)
    assert session.alert == (f"{rule}: {message}" if rule else "")


def test_a_relay_is_remembered_as_it_was_asked_for(book: Ledger, tmp_path: Path) -> None:
    run = _run(book, tmp_path)
    assert book.relay(run.run_id) is None
    book.begin_relay(run.run_id, device="cpu", accelerator="", max_hours=0.5, since=3)
    book.update_relay(run.run_id, note="waits for the quota")
    asked = Ledger(tmp_path / "ledger.sqlite").relay(run.run_id)
    assert asked == Relay(run.run_id, "cpu", "", 0.5, "on", "waits for the quota", 3)


WRITER = """
import sys
import threading
from pathlib import Path
from kernel.contract.config import RunConfig
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run
folder, writer = Path(sys.argv[1]), sys.argv[2]
for number in range(10_000):
    book = Ledger(folder / "ledger.sqlite")
    name = f"run-{writer}-{number}"
    run = new_run(name, "local", "local", RunConfig(name, 100, 10), folder)
    book.add_run(run)
    print("run", name, flush=True)
    for after in range(3):
        book.begin_session(run, device="cpu", accelerator=None, max_seconds=60, max_timesteps_at_risk=0,
                           publish_interval_seconds=1, after=after)
        print("session", name, after + 1, flush=True)
        book.update_session(name, after + 1, published_timesteps=10 * number + after, submission="pushed")
        print("published", name, after + 1, 10 * number + after, flush=True)
    if number % 3 == 0:
        book.begin_relay(name, device="cpu", accelerator="", max_hours=1.0, since=0)
        print("relay", name, flush=True)
"""


def test_a_command_that_finds_another_one_making_the_ledger_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waited = threading.Timer(0.2, other.execute, ("COMMIT",))
    waited.start()
    assert Ledger(path).runs() == []
    waited.join()
    other.close()


def test_what_was_written_survives_a_sigkill_at_any_instant(tmp_path: Path) -> None:
    chance = random.Random(7)
    path = tmp_path / "ledger.sqlite"
    said: list[list[str]] = []
    for attempt in range(12):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), f"{attempt}-{one}"], stdout=subprocess.PIPE, text=True
            )
            for one in range(2)
        ]
        assert writers[0].stdout is not None
        said += [writers[0].stdout.readline().split() for _ in range(chance.randrange(4, 12))]
        time.sleep(chance.uniform(0, 0.01))
        for writer in writers:
            writer.kill()
        for writer in writers:
            out, _ = writer.communicate()
            # A line that was torn by the kill is no acknowledgement.
            said += [line.split() for line in out.splitlines(keepends=True) if line.endswith("\n")]
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    book = Ledger(path)
    known = {run.run_id: {s.number: s for s in book.sessions(run.run_id)} for run in book.runs()}
    assert len(said) > 50
    assert all(said), "no writer ended by itself"
    for kind, name, *rest in said:
        assert name in known
        if kind == "session":
            assert int(rest[0]) in known[name]
        elif kind == "published":
            assert known[name][int(rest[0])].published_timesteps == int(rest[1])
            assert known[name][int(rest[0])].submission == "pushed"
        elif kind == "relay":
            assert book.relay(name) is not None
    for sessions in known.values():
        assert sorted(sessions) == list(range(1, len(sessions) + 1))
