"""A run that another machine pushed is found by name, proved by its script, and from then on as good as our own."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract.names import dataset_slug
from launcher.config import Settings
from launcher.errors import AmbiguousRun, UnknownRun
from launcher.local_kaggle.service import LocalKaggle
from launcher.packing import bundle
from launcher.packing.bundle import Unreadable
from launcher.packing.project import Project
from launcher.runs import adoption, checkpoints, submission
from launcher.runs.bound_run import BoundRun
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, new_run
from launcher.targets.base import Backend
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend
from launcher.targets.target import Target, TargetName
from tests.limits import limit_s, until

from .local_kaggle.callers import DATASETS, FAST, Caller
from .relayed import CONFIG, RUN_ID, checkpoint

PROJECT = Project({"signals/__init__.py": b"", "signals/lights.py": b"GREEN = 1\n"})
TARGET = Target(TargetName.local, "a test")


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[LocalKaggle]:
    service = LocalKaggle(tmp_path / "local-kaggle")
    service.ensure_running(timeout_s=limit_s(20))
    # Sessions stay in the queue: what they would train is of no interest here.
    service.change_settings(**{**FAST, "queue_s": 3600.0})
    yield service
    service.stop()


@pytest.fixture
def backend(kaggle: LocalKaggle) -> Backend:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    return KaggleBackend(endpoint.url, Credentials("a test", endpoint.token, endpoint.username))


@pytest.fixture
def here(tmp_path: Path) -> Ledger:
    """The ledger of a machine that knows nothing."""
    return Ledger(tmp_path / "here" / "ledger.sqlite")


def _push_elsewhere(backend: Backend, folder: Path) -> tuple[Run, Ledger]:
    book = Ledger(folder / "ledger.sqlite")
    run = new_run(RUN_ID, "local", "local", CONFIG, folder)
    settings = dataclasses.replace(Settings(), session=dataclasses.replace(Settings().session, device="cpu"))
    bound = BoundRun(run, book, target=TARGET, backend=backend)
    prepared = submission.prepare(bound, 1, settings, resumes=False, project=PROJECT)
    submission.start(bound, prepared, settings, after=0)
    return run, book


def test_a_run_is_adopted_by_how_its_name_begins_where_one_alone_does(
    kaggle: LocalKaggle, backend: Backend, here: Ledger, tmp_path: Path
) -> None:
    _push_elsewhere(backend, tmp_path)
    run = adoption.adopt(RUN_ID[:4], backend, here, "local", tmp_path, print)
    assert (run.run_id, here.run(RUN_ID).run_id) == (RUN_ID, RUN_ID)
    Caller(kaggle).dataset(dataset_slug(f"{RUN_ID}x"), **{"run__json": b"{}"})
    with pytest.raises(AmbiguousRun, match=f"kaglaunch adopt {RUN_ID}"):
        adoption.adopt(RUN_ID[:4], backend, here, "local", tmp_path, print)
    assert adoption.adopt(RUN_ID, backend, here, "local", tmp_path, print).run_id == RUN_ID


def _publish(kaggle: LocalKaggle, num_timesteps: int) -> None:
    call = Caller(kaggle)
    run_json = json.dumps({"run": dataclasses.asdict(CONFIG), "session": 1}).encode()
    name = f"checkpoint_t{num_timesteps}__zip__bin"
    call.dataset(f"{RUN_ID}-ckpt", **{name: checkpoint(num_timesteps), "run__json": run_json})

    def status() -> str:
        try:
            answer = call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=f"{RUN_ID}-ckpt")
        except OSError:
            return ""
        return str(answer["status"]).upper()

    until(lambda: status() == "READY")


def test_a_run_of_another_machine_is_found_and_adopted_with_all_that_later_sessions_need(
    kaggle: LocalKaggle, backend: Backend, here: Ledger, tmp_path: Path
) -> None:
    theirs, book = _push_elsewhere(backend, tmp_path / "elsewhere")
    _publish(kaggle, 50)
    (found,) = adoption.unknown_runs(backend, here)
    assert (found.run_id, found.sessions, found.dataset) == (RUN_ID, [1], True)
    said: list[str] = []
    ours = adoption.adopt(RUN_ID, backend, here, "local", tmp_path / "here", said.append)
    assert said == []
    assert ours.config == theirs.config
    assert Project.saved(ours.project).files == PROJECT.files
    (mine,), (other,) = here.sessions(RUN_ID), book.sessions(RUN_ID)
    same = ("device", "accelerator", "max_seconds", "script_sha256", "code_digest", "config_digest", "submission")
    assert [getattr(mine, name) for name in same] == [getattr(other, name) for name in same]
    assert mine.status == "QUEUED"
    assert ours.script(1).read_bytes() == theirs.script(1).read_bytes()
    (result,) = checkpoints.fetch(ours, backend, here)
    assert (result.num_timesteps, result.verdict) == (50, "verified")
    assert adoption.unknown_runs(backend, here) == []
    adoption.adopt(RUN_ID, backend, here, "local", tmp_path / "here", said.append)
    assert len(here.sessions(RUN_ID)) == 1


def test_a_run_whose_kernels_are_deleted_is_adopted_from_its_dataset(
    kaggle: LocalKaggle, backend: Backend, here: Ledger, tmp_path: Path
) -> None:
    _publish(kaggle, 75)
    run = adoption.adopt(RUN_ID, backend, here, "local", tmp_path / "here", print)
    assert run.config == CONFIG
    (session,) = here.sessions(RUN_ID)
    assert (session.status, session.submission) == ("DELETED", "absent")
    (result,) = checkpoints.fetch(run, backend, here)
    assert result.num_timesteps == 75


def test_a_kernel_that_only_has_the_name_of_a_run_is_left_out(
    kaggle: LocalKaggle, backend: Backend, here: Ledger, tmp_path: Path
) -> None:
    Caller(kaggle).push("holiday-pictures-s1", "print('not ours')\n")
    said: list[str] = []
    with pytest.raises(UnknownRun, match="not pushed by kaglaunch"):
        adoption.adopt("holiday-pictures", backend, here, "local", tmp_path, said.append)
    assert "no bundle of kaglaunch" in said[0]
    with pytest.raises(UnknownRun, match="runs --remote"):
        adoption.adopt("never-was", backend, here, "local", tmp_path, said.append)
    assert here.runs() == []


def test_a_kernel_that_was_pushed_elsewhere_is_not_pushed_again(
    kaggle: LocalKaggle, backend: Backend, here: Ledger, tmp_path: Path
) -> None:
    from launcher.runs import continuation
    from launcher.runs.continuation import SessionRuns, Start

    _push_elsewhere(backend, tmp_path / "elsewhere")
    run = new_run(RUN_ID, "local", "local", CONFIG, tmp_path / "here")
    here.add_run(run)
    arguments = {"device": "cpu", "accelerator": None, "max_seconds": 60.0, "max_timesteps_at_risk": 0}
    here.begin_session(run, **arguments, publish_interval_seconds=1.0, after=-1)  # type: ignore[arg-type]
    (last,) = here.sessions(RUN_ID)
    bound = BoundRun(run, here, target=TARGET, backend=backend)
    with pytest.raises(SessionRuns, match=f"kaglaunch adopt {RUN_ID}"):
        continuation.push_next(bound, last, Start(None, False, False), Settings())
    assert len(kaggle.status()["sessions"]) == 1


def test_an_opened_script_is_what_was_packed_and_an_altered_one_is_refused() -> None:
    from kernel.contract.config import Configuration, SessionConfig

    configuration = Configuration(CONFIG, SessionConfig(session=3, device="cpu"))
    packed = bundle.build(configuration, PROJECT)
    opened = bundle.opened(packed.script)
    assert opened == packed
    assert (opened.configuration, opened.project) == (configuration, tuple(PROJECT.files))
    at = packed.script.index(b"PAYLOAD") + 5000
    altered = packed.script[:at] + (b"A" if packed.script[at : at + 1] != b"A" else b"B") + packed.script[at + 1 :]
    for script in (altered, packed.script[:50_000], b"print('hello')", b""):
        with pytest.raises(Unreadable):
            bundle.opened(script)
    forged = re.sub(rb'SHA256 = "[0-9a-f]+"', b'SHA256 = "' + b"0" * 64 + b'"', packed.script)
    with pytest.raises(Unreadable, match="altered or cut short"):
        bundle.opened(forged)
