"""Watching a run changes nothing about its end: the same runs watched, watched late, and not watched.

    python -m benchmarks.watching --runs 10
    python -m benchmarks.watching --runs 3 --case interrupted --case throttled --case unhealthy

Each run is a real `kaglaunch push` of a CartPole training to an embedded Kaggle. A stop comes at an instant of the
clock, so no two runs end at the same timestep; what is compared is, within each run, the timesteps that it had done
(the furthest that its log tells), its last checkpoint, what its kernel says is published, and the newest checkpoint
that `fetch-checkpoints` brings back and that verifies. Nothing is lost where the four are one number.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.contract import events
from kernel.contract.manifest import checkpoints_in, verify
from launcher.local_kaggle.service import LocalKaggle

ENVIRONMENT = """
import gymnasium

class Chatty(gymnasium.Wrapper):
    \"\"\"Prints twenty lines a step from step 3,001 on; `reward` in place of CartPole's, where one is given.\"\"\"

    def __init__(self, lines=20, reward=None):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.lines, self.reward, self.steps = lines, reward, 0

    def step(self, action):
        self.steps += 1
        if self.steps > 3_000:
            for line in range(self.lines):
                print(f"[DEBUG] step {self.steps} line {line}")
        obs, reward, *rest = super().step(action)
        return obs, reward if self.reward is None else self.reward, *rest
"""
SETTINGS = """
[run]
env = "chatty:Chatty"
env_kwargs = {{ {kwargs} }}
timesteps = {timesteps}
checkpoint_freq = 500

[session]
device = "cpu"
max_hours = 1.0
publish_interval_s = 20
on_flood = "{on_flood}"
on_unhealthy = "{on_unhealthy}"
"""
PUSH = ("push", "--target", "local", "--waive", "debug-prints", "--waive", "speed", "--waive", "plan")
WAIT_S = 600.0
"""For a word of a session, on a machine that does much else."""


@dataclass(frozen=True)
class Case:
    """A training, how it is looked at, and how it should end."""

    watched: str
    """`from the start`, `late` (from the word that ends it on), `never`, or `interrupted` (Ctrl-C during the stop)."""
    result: str
    exit_code: int
    told_by: str
    """Event that says what is to come."""
    kwargs: str = ""
    timesteps: int = 60_000
    on_flood: str = "stop"
    on_unhealthy: str = "warn"
    waived: tuple[str, ...] = ()
    """Checks of the push that its training fails besides those of all."""

    @property
    def settings(self) -> str:
        """Text of kaglaunch.toml."""
        return SETTINGS.format(**vars(self))


CASES: Mapping[str, Case] = {
    "watched": Case("from the start", "flood", 4, "flood"),
    "late": Case("late", "flood", 4, "flood"),
    "unwatched": Case("never", "flood", 4, "flood"),
    "interrupted": Case("interrupted", "flood", 4, "flood"),
    "throttled": Case("from the start", "finished", 0, "flood", timesteps=6_144, on_flood="throttle"),
    "unhealthy": Case(
        "from the start",
        "unhealthy",
        4,
        "health",
        kwargs="lines = 0, reward = 0.0",
        on_unhealthy="stop",
        waived=("environment",),
    ),
}
COMPARED = ("watched", "late", "unwatched")


@dataclass(frozen=True)
class Outcome:
    """How one run ended, in timesteps."""

    result: str
    exit_code: int
    done: int
    checkpoint: int
    published: int
    fetched: int
    lost: int

    @property
    def whole(self) -> bool:
        """Whether nothing of it was lost."""
        return self.lost == 0 and self.done == self.checkpoint == self.published == self.fetched


class Campaign:
    """Runs of one user, whose embedded Kaggle is their own."""

    def __init__(self, folder: Path) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KAGLAUNCH_"))}
        self.environ = kept | {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": cache}
        self.folder = folder
        self.kaggle = LocalKaggle(folder / "state" / "kaglaunch" / "local-kaggle")

    def play(self, name: str, case: Case) -> Outcome:
        """One run to its end."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "chatty.py").write_text(ENVIRONMENT, encoding="utf-8")
        (folder / "kaglaunch.toml").write_text(case.settings, encoding="utf-8")
        at_once = ["--watch"] if case.watched in ("from the start", "interrupted") else []
        waived = [word for check in case.waived for word in ("--waive", check)]
        push = self._start(folder, *PUSH, *waived, *at_once)
        assert push.stdout is not None
        said: list[str] = []
        for line in push.stdout:
            # Once: a line whose writing Ctrl-C interrupts may come a second time when the output is closed.
            if case.watched == "interrupted" and "stopping itself" in line and line not in said:
                push.send_signal(signal.SIGINT)
            said.append(line)
        code, text = push.wait(), "".join(said)
        if not (found := re.search(r"session 1 of run ([a-z0-9-]+)", text)):
            raise RuntimeError(f"{name}: {text}")
        run_id = found[1]
        if case.watched == "interrupted" and code != 130:
            raise RuntimeError(f"{name}: Ctrl-C ended the watch with exit code {code}.\n{text}")
        if case.watched == "late":
            self._await_event(run_id, case.told_by)
        if case.watched in ("never", "interrupted"):
            self._await_event(run_id, events.Result.name)
        if case.watched != "from the start":
            code = self._types(folder, "watch", run_id).returncode
        return self._outcome(folder, run_id, code)

    def _outcome(self, folder: Path, run_id: str, code: int) -> Outcome:
        (row,) = json.loads(self._types(folder, "report", run_id, "--json").stdout)["sessions"]
        self._types(folder, "fetch-checkpoints", run_id)
        fetched = checkpoints_in(folder / "runs" / run_id / "checkpoints")
        told = list(self._events(run_id))
        result = next((event for event in told if isinstance(event, events.Result)), None)
        return Outcome(
            result=row["result"] or row["status"],
            exit_code=code,
            done=row["done_timesteps"],
            checkpoint=max((one.num_timesteps for one in told if isinstance(one, events.Checkpoint)), default=0),
            published=(result.published_timesteps or 0) if result else row["published_timesteps"],
            fetched=verify(fetched[0]).num_timesteps if fetched else 0,
            lost=row["lost_timesteps"],
        )

    def _events(self, run_id: str) -> Iterator[events.Event]:
        """What the session has said, read where the embedded Kaggle keeps it: nobody is asked."""
        session = next(one for one in self.kaggle.status()["sessions"] if one["kernel"] == f"local/{run_id}-s1")
        for path in self.kaggle.state_dir.glob(f"sessions/{session['session_id']}/log.jsonl"):
            # What has no end of line is being written.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                if (event := events.parse(str(json.loads(line)["data"]))) is not None:
                    yield event

    def _await_event(self, run_id: str, name: str) -> None:
        until = time.monotonic() + WAIT_S
        while not any(event.name == name for event in self._events(run_id)):
            if time.monotonic() > until:
                raise RuntimeError(f"{run_id} said no {name} within {WAIT_S:.0f} s")
            time.sleep(0.2)

    def _start(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments],
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # Ctrl-C is for the command, which a background job of a shell would be deaf to.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def _types(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "launcher", *arguments]
        return subprocess.run(
            command, cwd=folder, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )


def campaign(names: tuple[str, ...], runs: int, at_once: int = 1) -> dict[str, list[Outcome]]:
    """So many runs of each case, the cases turn by turn."""
    with tempfile.TemporaryDirectory() as folder:
        user = Campaign(Path(folder))
        user.kaggle.ensure_running()
        user.kaggle.change_settings(queue_s=0.1, log_delay_s=0.1)
        try:
            with ThreadPoolExecutor(at_once) as pool:
                turns = [
                    (name, pool.submit(user.play, f"{name}-{i}", CASES[name])) for i in range(runs) for name in names
                ]
                outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
                for name, turn in turns:
                    outcomes[name].append(turn.result())
                    print(f"  {name:12s} {outcomes[name][-1]}", file=sys.stderr, flush=True)
        finally:
            user.kaggle.stop()
    return outcomes


def row(name: str, outcomes: list[Outcome]) -> str:
    """Counts of one case."""
    case, n = CASES[name], len(outcomes)
    ends = collections.Counter((one.result, one.exit_code) for one in outcomes)
    told = ", ".join(f"{count} {result} ({code})" for (result, code), count in sorted(ends.items()))
    reached = sorted(one.published for one in outcomes)
    return (
        f"  {name:12s} {case.watched:15s} {told:24s} whole {sum(one.whole for one in outcomes):2d} of {n:2d}   "
        f"lost {sum(one.lost for one in outcomes):,}   published t{reached[0]:,} to t{reached[-1]:,}"
    )


def as_wanted(name: str, outcomes: list[Outcome]) -> bool:
    """Whether every run of a case ended as it should, with nothing lost."""
    case = CASES[name]
    return all(one.whole and (one.result, one.exit_code) == (case.result, case.exit_code) for one in outcomes)


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--runs", type=int, default=10, help="runs of each case")
    options.add_argument("--case", action="append", choices=tuple(CASES), help="again for more; the three by default")
    options.add_argument("--at-once", type=int, default=1, help="runs side by side")
    chosen: Any = options.parse_args(arguments)
    names = tuple(chosen.case or COMPARED)
    outcomes = campaign(names, chosen.runs, chosen.at_once)
    print("whole = done, last checkpoint, published and fetched are the same timestep; (exit code of the command)")
    for name in names:
        print(row(name, outcomes[name]))
    return 0 if all(as_wanted(name, outcomes[name]) for name in names) else 1


if __name__ == "__main__":
    sys.exit(main())
