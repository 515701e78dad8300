"""Nothing is silent for long: a spinner on a terminal, a line now and then elsewhere, never on standard output."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract.config import RunConfig
from launcher import downloads
from launcher.cli import main
from launcher.errors import BackendUnavailable
from launcher.runs.bound_run import BoundRun
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run
from launcher.targets import kaggle, target
from launcher.targets.credentials import Credentials
from launcher.targets.target import Target, TargetName
from launcher.transfers import OnBytes, PlainTransfers
from launcher.waiting import Waiting, waiting
from tests.limits import until


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_where_there_is_no_terminal_a_line_comes_after_two_seconds_and_every_ten() -> None:
    now, out = [100.0], io.StringIO()
    shown = Waiting("Asking kaggle.com for its quota", out, lambda: now[0])
    for now[0] in (100.0, 101.9, 102.0, 111.9, 112.0, 115.0, 122.0):
        shown.tick()
    shown("Asking again")
    now[0] = 132.0
    shown.tick()
    shown.end()
    now[0] = 150.0
    shown.tick()
    assert out.getvalue().splitlines() == [
        "Asking kaggle.com for its quota: 2 s…",
        "Asking kaggle.com for its quota: 12 s…",
        "Asking kaggle.com for its quota: 22 s…",
        "Asking again…",
        "Asking again: 10 s…",
    ]


def test_a_terminal_shows_a_spinner_once_it_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    now, out = [0.0], Terminal()
    shown = Waiting("Starting", out, lambda: now[0])
    shown.tick()
    assert out.getvalue() == ""
    now[0], streams = 3.0, (sys.stdout, sys.stderr)
    shown.tick()
    assert (sys.stdout, sys.stderr) == streams  # what is redirected meanwhile would never come back
    now[0] = 5.0
    shown.tick()
    shown.end()
    assert "Starting… 5 s" in out.getvalue()


def test_what_is_done_at_once_says_nothing_and_an_error_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), waiting("Dividing", clock=lambda: 0.0):
        raise ZeroDivisionError
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_a_person_is_waited_for_with_less_patience_than_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(kaggle, "KaggleBackend", lambda url, known, **more: given.append(more.get("patience_s")))
    chosen = Target(TargetName.kaggle, "for a test", Credentials("a test", "token"))
    chosen.connect(patience_s=target.PERSON_S)
    chosen.connect()
    assert given == [8.0, None]


@pytest.mark.parametrize(
    "typed",
    ["push --device cpu --env CartPole-v1", "preflight", "resume", "cancel --yes", "watch", "fetch-checkpoints"],
)
def test_a_command_that_a_person_types_gives_up_a_network_that_is_down(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    given: list[dict[str, float]] = []

    def no_network(url: str, credentials: Credentials, **patience: float) -> None:
        given.append(patience)
        raise BackendUnavailable(f"No answer from {url} (ConnectionError). Is the network up?")

    monkeypatch.setattr(kaggle, "KaggleBackend", no_network)
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "0" * 32)
    book = Ledger()
    run = new_run("known-aaaaaa", "kaggle", "somebody", RunConfig("known-aaaaaa", 100, 10), home)
    book.add_run(run)
    book.begin_session(
        run, device="cpu", accelerator=None, max_seconds=900.0, max_timesteps_at_risk=0,
        publish_interval_seconds=5.0, after=0, submission="pushed",
    )  # fmt: skip
    assert main(typed.split()) == BackendUnavailable.exit_code
    assert given == [{"sign_in_s": 8.0}]
    assert capsys.readouterr().err.splitlines()[-1].endswith("Is the network up?")


def test_what_is_waited_for_never_writes_beside_a_file_that_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def told(name: str) -> Iterator[None]:
        seen.append(f"{name} begins")
        try:
            yield
        finally:
            seen.append(f"{name} ends")

    class Shown(PlainTransfers):
        @contextlib.contextmanager
        def file(self, name: str, origin: str) -> Iterator[OnBytes]:
            with told(name):
                yield lambda done, total: None

    monkeypatch.setattr(downloads, "waiting", told)
    run = new_run("known-aaaaaa", "local", "local", RunConfig("known-aaaaaa", 100, 10), tmp_path)
    shown = Shown(seen.append)
    handle = BoundRun(run, Ledger(tmp_path / "ledger.sqlite"), shown)
    with contextlib.suppress(ZeroDivisionError), downloads.between_files(handle, "looking"):
        handle.say("one comes")
        with handle.transfers.file("file", "version 1"):
            raise ZeroDivisionError
    handle.say("over")
    waits = ["looking begins", "looking ends"]
    assert seen == [*waits, "one comes", *waits, "file begins", "file ends", *waits, "over"]


@pytest.mark.parametrize("typed", ["quota", "adopt run-a2b3c4", "runs --remote", "push --quick --waive speed"])
def test_nobody_waits_for_longer_than_two_seconds_without_a_word(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text("KGAT_nobody", "utf-8")
    heard: list[str] = []

    def connect(self: Target, **_: object) -> None:
        def said() -> bool:
            heard.append(capsys.readouterr().err)
            return " 2 s…" in "".join(heard)

        until(said, seconds=3.0)
        raise BackendUnavailable("The network is down.")

    monkeypatch.setattr(Target, "connect", connect)
    assert main(typed.split()) == 1
