"""The parent outlives whatever happens to the trainer, and ends every session with the truth and exit code 0."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernel.contract import events
from kernel.contract.config import Configuration
from kernel.contract.events import Event
from kernel.contract.manifest import checkpoints_in, verify
from kernel.session.deadline import Deadline
from kernel.session.event_governor import EventGovernor
from kernel.session.supervisor import Supervisor, describe_exit
from tests.limits import limit_s, until

from .support import configuration, environment, events_of

Start = Callable[..., "Running"]


class Running:
    """A session in the background."""

    def __init__(self, folder: Path, run: dict[str, Any], session: dict[str, Any], group: Path | None = None) -> None:
        self.folder = folder
        (folder / "run.json").write_text(json.dumps(configuration(run, session)))
        self._out = (folder / "stdout.txt").open("wb")
        command = [sys.executable, "-m", "kernel", "--config", "run.json"]
        if group is not None:
            command = ["sh", "-c", f'echo $$ >"{group}/cgroup.procs" && exec "$0" "$@"', *command]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=self._out, stderr=subprocess.DEVNULL
        )

    def events(self) -> list[dict[str, Any]]:
        """What was told so far."""
        return events_of((self.folder / "stdout.txt").read_text("utf-8", "replace"))

    def wait_for(self, name: str, seconds: float = 60.0, **fields: Any) -> dict[str, Any]:
        """The first such event."""

        def told() -> dict[str, Any] | None:
            ended = self.process.poll() is not None
            for event in self.events():
                if event["event"] == name and all(event.get(k) == v for k, v in fields.items()):
                    return event
            assert not ended, f"no {name}: {self.events()}"
            return None

        event = until(told, seconds)
        assert event is not None
        return event

    def wait_to_hang(self) -> None:
        """A HangingQueue has come to the step that it does not return from."""
        until((self.folder / "hung.txt").exists, 60.0)

    def end(self, seconds: float = 60.0) -> dict[str, Any]:
        """The result; exit code and file must agree with it."""
        assert self.process.wait(limit_s(seconds)) == 0
        result = self.events()[-1]
        assert result["event"] == "result"
        written = json.loads((self.folder / "result.json").read_text())
        assert written["status"] == result["status"]
        return result

    def trainer(self) -> psutil.Process:
        """The trainer's process."""
        return next(
            p for p in psutil.Process(self.process.pid).children() if "kernel.training" in " ".join(p.cmdline())
        )


@pytest.fixture
def start(tmp_path: Path, trains: None) -> Iterator[Start]:
    running: list[Running] = []

    def begin(run: dict[str, Any], group: Path | None = None, **session: Any) -> Running:
        running.append(Running(tmp_path, {"total_timesteps": 100_000, **run}, session, group))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


SLOW = {"env": "toy_environments:SlowQueue", "checkpoint_freq": 10}


def test_crashed_trainer_starts_again_from_its_newest_checkpoint(start: Start) -> None:
    session = start({"env": "toy_environments:DyingQueue", "total_timesteps": 60})
    result = session.end()
    assert (result["status"], result["num_timesteps"], result["restarts"]) == ("finished", 60, 1)
    restart = session.wait_for("restart")
    assert "SIGSEGV" in restart["reason"]
    assert restart["from_timesteps"] == 10
    assert restart["memory"]["total_bytes"] > 0
    assert [e["num_timesteps"] for e in session.events() if e["event"] == "training"] == [0, 10]


def test_sigkilled_trainer_starts_again_and_loses_less_than_one_cadence(start: Start) -> None:
    session = start({"env": "toy_environments:HangingQueue", "total_timesteps": 60})
    session.wait_for("checkpoint", num_timesteps=10)
    session.wait_to_hang()
    session.trainer().kill()
    result = session.end()
    assert (result["status"], result["restarts"], result["exact"]) == ("finished", 1, True)
    assert session.wait_for("restart")["from_timesteps"] == 10


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group, of either version, whose processes have 1 GB together."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"kaglaunch-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text("1000000000")
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        until(lambda group=group: not (group / "cgroup.procs").read_text())
        group.rmdir()
        return
    pytest.skip("no control group with a memory limit can be made here")


def test_trainer_that_the_system_kills_for_its_memory_starts_again_and_the_figures_say_so(
    start: Start, small_memory: Path
) -> None:
    session = start({"env": "toy_environments:HungryQueue", "total_timesteps": 60}, small_memory)
    result = session.end()
    assert (result["status"], result["num_timesteps"], result["restarts"]) == ("finished", 60, 1)
    restart = session.wait_for("restart")
    assert restart["reason"] == "the trainer was killed by SIGKILL: out of memory"
    assert restart["from_timesteps"] == 10
    memory = restart["memory"]
    assert memory["oom_kills"] == 1
    assert memory["total_bytes"] <= 1_000_000_000
    assert memory["peak_bytes"] > 100_000_000


def test_hung_trainer_is_ended_with_its_stacks_and_starts_again(start: Start) -> None:
    run = {"env": "toy_environments:HangingQueue", "total_timesteps": 40}
    silence_s = limit_s(2.0)
    session = start(run, silence_seconds=silence_s)
    assert session.end()["status"] == "finished"
    health = session.wait_for("health", rule="silence")
    assert health["figure"] >= round(silence_s, 1)
    assert session.wait_for("restart")["from_timesteps"] == 10
    assert "toy_environments.py" in (session.folder / "trainer.log").read_text()


def test_trainer_that_cannot_get_further_ends_the_session_with_the_reason(start: Start) -> None:
    session = start({"env": "toy_environments:BrokenQueue"})
    result = session.end()
    assert (result["status"], result["restarts"]) == ("crashed", 4)
    assert "RuntimeError: the light is broken" in result["message"]


def test_what_each_start_from_a_checkpoint_ends_in_is_begun_otherwise(start: Start) -> None:
    session = start({"env": "toy_environments:PipeQueue", "total_timesteps": 60}, environment_state="visible")
    session.wait_for("checkpoint", num_timesteps=20)
    session.trainer().kill()
    result = session.end(120.0)
    assert (result["status"], result["num_timesteps"], result["exact"]) == ("finished", 60, False)
    restarts = [event for event in session.events() if event["event"] == "restart"]
    assert [event["otherwise"] for event in restarts][-2:] == ["from the checkpoint before it", "new episodes"]
    assert restarts[-2]["from_timesteps"] < restarts[-1]["from_timesteps"]
    assert "starts ended before a new checkpoint" in result["exactness"]["reason"]


@pytest.mark.parametrize(
    ("run", "named"),
    [
        ({"hyperparameters": {"learning_rat": 1e-3}}, "learning_rat"),
        ({"env": "toy_environments:NoSuchQueue"}, "NoSuchQueue"),
        ({"env": "no_such_module:Queue"}, "no_such_module"),
        ({"env": "NoSuchEnvironment-v3"}, "NoSuchEnvironment"),
    ],
)
def test_what_no_restart_would_change_is_told_without_one(run: dict[str, Any], named: str, start: Start) -> None:
    result = start(run).end()
    assert (result["status"], result["restarts"]) == ("crashed", 0)
    assert named in result["message"]


def test_deadline_stops_the_trainer_with_a_last_checkpoint_before_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    limit, margin, ahead = 40_000.0, limit_s(33.0), 0.0
    run = {"env": "toy_environments:SlowQueue", "total_timesteps": 100_000, "checkpoint_freq": 50_000}
    # The clock goes to the deadline at once: a trainer that was not silent seems so.
    settings = Configuration.from_json(json.dumps(configuration(run, {"silence_seconds": 2 * limit})))
    (tmp_path / "run.json").write_text(settings.to_json())

    def clock() -> float:
        return time.monotonic() + ahead

    deadline = Deadline(clock(), limit, margin, clock)
    told: list[Event] = []

    def tell(event: Event) -> None:
        nonlocal ahead
        told.append(event)
        if isinstance(event, events.Progress) and event.num_timesteps and not ahead:
            ahead = deadline.training_seconds_left

    supervisor = Supervisor(tmp_path, tmp_path / "run.json", settings, deadline, None, EventGovernor(tell), clock)
    result = supervisor.run()
    assert result.status == "deadline"
    assert limit - margin <= result.seconds < limit
    (last,) = checkpoints_in(tmp_path / "checkpoints")
    assert verify(last).num_timesteps == result.num_timesteps > 0
    (stopped,) = [event for event in told if isinstance(event, events.Deadline)]
    assert stopped.seconds_left <= stopped.margin_seconds == round(margin, 1)


def test_session_stops_before_the_limit_that_its_configuration_sets(start: Start) -> None:
    limit = limit_s(60.0)
    session = start(SLOW, max_seconds=limit, margin_seconds=limit)
    result = session.end()
    assert result["status"] == "deadline"
    assert result["seconds"] < limit
    assert limit / 2 < session.wait_for("deadline")["seconds_left"] <= limit


def test_sigterm_means_what_the_deadline_means(start: Start) -> None:
    session = start(SLOW)
    session.wait_for("checkpoint", num_timesteps=10)
    session.process.send_signal(signal.SIGTERM)
    result = session.end(30.0)
    assert (result["status"], result["restarts"]) == ("stopped", 0)
    assert result["num_timesteps"] >= 10


def test_second_sigterm_means_now(start: Start) -> None:
    session = start({"env": "toy_environments:HangingQueue"})
    session.wait_for("checkpoint", num_timesteps=10)
    session.wait_to_hang()
    session.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert session.process.poll() is None, "it waits for the trainer's next step"

    def ended() -> bool:
        # Two signals of a kind that come before the first was looked at are one; more do no harm, to the very end.
        session.process.send_signal(signal.SIGTERM)
        return session.process.poll() is not None

    until(ended, poll_s=0.001)
    result = session.end()
    assert (result["status"], result["num_timesteps"]) == ("stopped", 10)


def test_trainer_does_not_outlive_its_supervisor(start: Start) -> None:
    session = start(SLOW)
    session.wait_for("checkpoint", num_timesteps=10)
    trainer = session.trainer()
    session.process.kill()
    session.process.wait()
    _, alive = psutil.wait_procs([trainer], timeout=limit_s(5.0))
    assert alive == []


def test_flood_stops_the_run_with_a_checkpoint_and_keeps_the_log_small(start: Start) -> None:
    session = start({"env": "toy_environments:ChattyQueue"})
    result = session.end()
    assert result["status"] == "flood"
    assert result["num_timesteps"] > 0
    assert session.wait_for("flood")["reason"] in ("debug output is on", "too many lines")
    shown = (session.folder / "stdout.txt").read_text()
    assert len(shown) < 100_000
    assert sum(1 for line in shown.splitlines() if "DEBUG" in line and "@kaglaunch" not in line) < 20
    full = (session.folder / "trainer.log").read_text()
    assert full.count("DEBUG_BC_GPU") >= 300  # what a single step prints
    assert result["hidden_lines"] > 0.95 * len(full.splitlines())  # how many there are depends on the machine


def test_throttled_flood_goes_on(start: Start) -> None:
    result = start({"env": "toy_environments:ChattyQueue", "total_timesteps": 60}, on_flood="throttle").end()
    assert (result["status"], result["num_timesteps"]) == ("finished", 60)


def test_worthless_training_is_stopped_when_that_is_asked_for(start: Start) -> None:
    run = {"env": "toy_environments:ConstantQueue", "env_kwargs": {"length": 50}}
    session = start(run, on_unhealthy="stop")
    result = session.end()
    assert result["status"] == "unhealthy"
    assert "0.01" in result["message"]
    assert result["num_timesteps"] >= 200
    assert session.wait_for("health", rule="constant_reward")["action"] == "stop"


def test_unreadable_configuration_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"run": {"run_id": "quick-run", "totl": 3}, "session": {}}')
    command = [sys.executable, "-m", "kernel", "--config", "run.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=limit_s(60))
    assert done.returncode == 1
    assert "'totl'" in done.stderr


def test_supervisor_holds_no_torch_and_no_client() -> None:
    heavy = {"torch", "numpy", "kagglehub", "kagglesdk"}
    code = f"import sys, kernel.session.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=limit_s(60)
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_memory_figures_tell_an_out_of_memory_kill_from_another() -> None:
    assert "out of memory" in describe_exit(-signal.SIGKILL, {"oom_kills": 1})
    assert "out of memory" not in describe_exit(-signal.SIGKILL, {"oom_kills": 0})


def test_a_training_whose_last_checkpoint_is_not_on_the_disk_is_not_called_finished(start: Start) -> None:
    result = start({"env": "toy_environments:NoMoreRoom", "total_timesteps": 128, "checkpoint_freq": 16}).end()
    assert result["status"] == "crashed"
    assert result["num_timesteps"] < 128 <= result["total_timesteps"]
    assert "last checkpoint could not be written" in result["message"]
