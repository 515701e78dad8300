"""Publishing that never pretends: what a run says is published, at risk and lost, under every fault of publishing.

    python -m benchmarks.publishing                     each fault, one trial
    python -m benchmarks.publishing --pairs 12          so many pairs of them besides, spread over all
    python -m benchmarks.publishing --fault deleted     one of them
    python -m benchmarks.publishing --replay            of a run whose replay chunks have a dataset of their own

A trial is a real session on an embedded Kaggle of its own: it trains, publishes, and is watched. After its first
publish the faults are set, and stay to the end of the session or as often as they say. Half of the sessions run to
their end, the others are cut off, which takes their outputs away. Then the faults are cleared, and this must hold:

- what the report says is safe is the newest checkpoint that `fetch-checkpoints` brings back, verified, and the session
  itself never said that more was published;
- the training kept at least half of its free speed while publishing failed;
- where more than MULTIPLE of the bound was at risk, an ALERT was said, and no alarm where it never came near that;
- what was fetched has every replay chunk, and no chunk was sent twice unless its dataset was deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.watching import PUSH, Campaign
from kernel.contract import chunks, events
from kernel.contract.manifest import checkpoints_in, verify
from kernel.contract.names import dataset_slug, replay_dataset
from kernel.session.risk import MULTIPLE
from launcher.local_kaggle.service import USERNAME

BOUND = 300
TIMESTEPS = 4_096
CUT_AT = "3[0-9][0-9][0-9]"
STEP_S = 0.012
LEAST_SHARE = 0.5
"""Of its free speed."""
SLACK = 2 * BOUND
"""Timesteps between a limit and the moment at which the log tells that it was passed."""
WAIT_S = 400.0
ALWAYS = 100_000

ENVIRONMENT = '''
import time
import gymnasium

class Slow(gymnasium.Wrapper):
    def __init__(self, seconds):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.seconds = seconds

    def step(self, action):
        time.sleep(self.seconds)
        return super().step(action)

class Wide(Slow):
    """Observations that take much of a replay buffer, and that nothing makes smaller."""

    def __init__(self, seconds):
        super().__init__(seconds)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (200,), "float32")

    def reset(self, **more):
        return self.wide(), super().reset(**more)[1]

    def step(self, action):
        return self.wide(), *super().step(action)[1:]

    def wide(self):
        return self.unwrapped.np_random.random(200, "float32")
'''
SETTINGS = f"""
[run]
env = "slow:Slow"
env_kwargs = {{ seconds = {STEP_S} }}
timesteps = {TIMESTEPS}
checkpoint_freq = 100
hyperparameters = {{ n_steps = 256 }}

[session]
device = "cpu"
max_hours = 0.06
publish_interval_s = 0.0
max_timesteps_at_risk = {BOUND}
"""
REPLAY_SETTINGS = SETTINGS.replace("slow:Slow", "slow:Wide").replace(
    "{ n_steps = 256 }", '{ buffer_size = 1_000, learning_starts = 100_000 }\nalgorithm = "DQN"'
)
REPLAY_SETTINGS = REPLAY_SETTINGS.replace("max_hours = 0.06", "max_hours = 0.1") + "replay_dataset_mb = 0.1\n"


def http(method: str, status: int, times: int = ALWAYS, **more: Any) -> dict[str, Any]:
    """The fault that answers `method` with `status`."""
    return {"http_error": [{"method": method, "status": status, "times": times, **more}]}


def dropped(kind: str, method: str, times: int) -> dict[str, Any]:
    """A request that gets no proper answer."""
    return {kind: [{"method": method, "times": times}]}


NEW, LOOK, BLOB = "CreateDatasetVersion", "GetDataset", "StartBlobUpload"
FAULTS: Mapping[str, Mapping[str, Any] | str] = {
    "none": {},
    "new version 401": http(NEW, 401),
    "new version 403": {"dataset_denied": {"times": ALWAYS}},
    "new version 404": http(NEW, 404),
    "new version 409, twice": http(NEW, 409, times=2),
    "new version 429": http(NEW, 429, html=True),
    "new version 500": http(NEW, 500),
    "new version reset, 3 times": dropped("connection_reset", NEW, 3),
    "new version's answer lost, twice": dropped("answer_lost", NEW, 2),
    "new version never answered": dropped("hang", NEW, 1),
    "look 401": http(LOOK, 401),
    "look 403": http(LOOK, 403),
    "look 404, twice": http(LOOK, 404, times=2),
    "look 429 with Retry-After, twice": http(LOOK, 429, times=2, retry_after=3),
    "look 500": http(LOOK, 500),
    "look reset, 3 times": dropped("connection_reset", LOOK, 3),
    "look never answered": dropped("hang", LOOK, 1),
    "status 403": http("GetDatasetStatus", 403),
    "files 500": http("ListDatasetFiles", 500),
    "upload 403": http(BLOB, 403),
    "upload 500": http(BLOB, 500),
    "bytes refused": {"upload_error": {"status": 500, "times": ALWAYS}},
    "bytes interrupted, 4 times": {"upload_interrupted": {"bytes": 2_000, "times": 4}},
    "bytes reset, 3 times": {"upload_reset": {"bytes": 2_000, "times": 3}},
    "version stuck": {"dataset_stuck": True},
    "version failed, twice": {"dataset_failed": {"times": 2}},
    "version failed": {"dataset_failed": {"times": ALWAYS}},
    "deleted": "delete",
    "chunks deleted": "delete chunks",
    "server killed": "kill",
}
"""Faults that are set, or what is done, in words of `Trial._do`."""


@dataclass
class Told:
    """What a trial came to, in timesteps."""

    name: str
    ends: str
    """`ends` or `cut`."""
    result: str = ""
    done: int = 0
    said: int = 0
    """Last timestep that the session said is published."""
    safe: int = 0
    """What the report says."""
    fetched: int = 0
    lost: int = 0
    worst: int = 0
    """Most that was at risk, of all that its log tells."""
    alerts: tuple[str, ...] = ()
    """Rules of the ALERTs that the watch said."""
    sent_twice: int = 0
    """Replay chunks that are in more than one version."""
    share: float = 1.0
    """Speed under the faults, of the free one."""
    wrong: list[str] = field(default_factory=list)

    def judge(self) -> Told:
        """Write down what does not hold."""
        if self.fetched != self.safe:
            self.wrong.append(f"the report says t{self.safe:,} is safe, fetched was t{self.fetched:,}")
        if self.said > self.fetched:
            self.wrong.append(f"the session said t{self.said:,} is published, fetched was t{self.fetched:,}")
        if self.lost != self.done - self.fetched and self.result != "finished":
            self.wrong.append(f"lost {self.lost:,} is said of {self.done - self.fetched:,}")
        if self.share < LEAST_SHARE:
            self.wrong.append(f"the training had {self.share:.0%} of its speed")
        if self.worst > MULTIPLE * BOUND + SLACK and not {"at risk", "publish lost"} & set(self.alerts):
            self.wrong.append(f"{self.worst:,} timesteps were at risk without an alert")
        if self.sent_twice and "deleted" not in self.name:
            self.wrong.append(f"{self.sent_twice} replay chunks were sent twice")
        if self.name.endswith("none") and self.alerts:
            self.wrong.append(f"alerts without a fault: {', '.join(self.alerts)}")
        return self


class Trial(Campaign):
    """One session under faults."""

    def play_under(self, names: tuple[str, ...], cut: bool, replay: bool = False) -> Told:
        """Run it to its end."""
        told = Told(" + ".join(names), "cut" if cut else "ends")
        folder = self.folder / "work"
        folder.mkdir()
        (folder / "slow.py").write_text(ENVIRONMENT, encoding="utf-8")
        (folder / "kaglaunch.toml").write_text(REPLAY_SETTINGS if replay else SETTINGS, encoding="utf-8")
        self.kaggle.ensure_running(timeout_s=WAIT_S)
        self.kaggle.change_settings(queue_s=0.1, log_delay_s=0.1, **dict.fromkeys(_STEPS, 0.05))
        self.kaggle.set_fault("keep_log_on_limit", True)  # what the session said is read from it
        if cut:
            self.kaggle.set_fault("session_limit_at_log", f'"event": "checkpoint".*"num_timesteps": {CUT_AT}')
        pushed = self._types(folder, *PUSH, "--waive", "environment")
        if not (found := re.search(r"session 1 of run ([a-z0-9-]+)", pushed.stdout + pushed.stderr)):
            raise RuntimeError(f"{told.name}: {pushed.stdout}{pushed.stderr}")
        run_id = found[1]
        with self._watched(folder, run_id) as alerts:
            begun = self._await(run_id, events.Published)
            if replay:
                self._await_chunks(run_id)
            for name in names:
                self._do(FAULTS[name], run_id)
            self._await_the_end()
        self._undo()
        heard = list(self._events(run_id))
        told.share = _share(heard, begun)
        told.alerts = tuple(sorted(set(alerts)))
        told.said, told.worst = _figures(heard)
        (row,) = json.loads(self._types(folder, "report", run_id, "--json").stdout)["sessions"]
        self._types(folder, "fetch-checkpoints", run_id)
        fetched = checkpoints_in(folder / "runs" / run_id / "checkpoints")
        if fetched:
            manifest = verify(fetched[0])
            chunks.verify(fetched[0], manifest)
            told.fetched = manifest.num_timesteps
        told.sent_twice = sum(count > 1 for count in self._copies(run_id).values())
        told.result = row["result"] or row["status"]
        told.done, told.safe, told.lost = row["done_timesteps"], row["safe_timesteps"], row["lost_timesteps"]
        return told.judge()

    def _do(self, fault: Mapping[str, Any] | str, run_id: str) -> None:
        if fault == "delete":
            self._call("DeleteDataset", {"ownerSlug": USERNAME, "datasetSlug": dataset_slug(run_id)})
        elif fault == "delete chunks":
            self._call("DeleteDataset", {"ownerSlug": USERNAME, "datasetSlug": _replay_slug(run_id)})
        elif fault == "kill":
            running = self.kaggle.find()
            assert running is not None
            os.kill(running.pid, signal.SIGKILL)
            time.sleep(10.0)
            self.kaggle.ensure_running(timeout_s=WAIT_S)
        else:
            assert not isinstance(fault, str)
            known = self.kaggle.faults()
            for name, rules in fault.items():
                # Two faults of one kind stand side by side.
                before = [{k: v for k, v in rule.items() if k != "taken"} for rule in known.get(name, [])]
                self.kaggle.set_fault(name, [*before, *(rules if isinstance(rules, list) else [rules])])

    def _copies(self, run_id: str) -> Counter[str]:
        """In how many versions each replay chunk is."""
        found: Counter[str] = Counter()
        known = {one["dataset"]: one for one in self.kaggle.status()["datasets"]}
        for version in known.get(f"{USERNAME}/{_replay_slug(run_id)}", {}).get("versions", []):
            if version["state"] == "READY":
                found.update(self._files(_replay_slug(run_id), version["number"]))
        return found

    def _files(self, slug: str, number: int) -> list[str]:
        asked = {"ownerSlug": USERNAME, "datasetSlug": slug, "datasetVersionNumber": number, "pageSize": 200}
        names = [file["name"] for file in self._call("ListDatasetFiles", asked)["datasetFiles"]]
        return [name for name in names if name.startswith("chunk_")]

    def _await_chunks(self, run_id: str) -> None:
        until = time.monotonic() + WAIT_S
        while not self._copies(run_id):
            if time.monotonic() > until:
                raise RuntimeError(f"{run_id} sent no replay chunk within {WAIT_S:.0f} s")
            time.sleep(0.2)

    def _call(self, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        running = self.kaggle.find()
        assert running is not None
        with urllib.request.urlopen(
            urllib.request.Request(
                f"{running.url}/api/v1/datasets.DatasetApiService/{method}",
                data=json.dumps(request).encode(),
                headers={"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"},
            ),
            timeout=WAIT_S,
        ) as answer:
            return dict(json.load(answer))

    def _undo(self) -> None:
        """Clear the faults and let the service finish what it has begun."""
        self.kaggle.ensure_running(timeout_s=WAIT_S)
        self.kaggle.clear_faults()
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            versions = [one["state"] for dataset in self.kaggle.status()["datasets"] for one in dataset["versions"]]
            if all(state in ("READY", "FAILED") for state in versions):
                return
            time.sleep(0.2)

    @contextlib.contextmanager
    def _watched(self, folder: Path, run_id: str) -> Iterator[list[str]]:
        """A watch beside; the rules of the ALERTs that it says."""
        watch = self._start(folder, "watch", run_id, "--json")
        assert watch.stdout is not None
        alerts: list[str] = []

        def listen() -> None:
            for line in watch.stdout or ():
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                    if said.get("event") == "alert" and said["level"] == "ALERT":
                        alerts.append(said["rule"])

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        yield alerts
        watch.wait(WAIT_S)
        listening.join(WAIT_S)

    def _await(self, run_id: str, kind: type[events.Event]) -> float:
        """When the session has said it [s since it began]."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            with contextlib.suppress(StopIteration, OSError, ValueError):
                return next(one.time or 0.0 for one in self._events(run_id) if isinstance(one, kind))
            time.sleep(0.2)
        raise RuntimeError(f"{run_id} said no {kind.name} within {WAIT_S:.0f} s")

    def _await_the_end(self) -> None:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                if all(one["state"] not in ("QUEUED", "RUNNING") for one in self.kaggle.status()["sessions"]):
                    return
            time.sleep(0.5)
        raise RuntimeError(f"the session did not end within {WAIT_S:.0f} s")


_STEPS = ("dataset_receive_s", "dataset_decompress_s", "dataset_copy_s", "dataset_compress_s", "dataset_finish_s")


def _share(heard: list[events.Event], begun: float) -> float:
    """Speed from `begun` on, of the speed that the trainer tells without its waits."""
    steps = [one for one in heard if isinstance(one, events.Progress) and (one.time or 0.0) >= begun]
    if len(steps) < 2 or not steps[-1].steps_per_s:
        return 1.0
    seconds = (steps[-1].time or 0.0) - (steps[0].time or 0.0)
    return (steps[-1].num_timesteps - steps[0].num_timesteps) / seconds / steps[-1].steps_per_s if seconds else 1.0


def _figures(heard: list[events.Event]) -> tuple[int, int]:
    """The last timestep that was said to be published, and the most that was at risk."""
    done = published = worst = 0
    for one in heard:
        done = max(done, getattr(one, "num_timesteps", None) or 0)
        match one:
            case events.Published():
                published = one.num_timesteps
            case events.PublishLost():
                published = one.published_timesteps or 0
            case events.Result():
                published = one.published_timesteps or 0
        worst = max(worst, done - published)
    return published, worst


def _replay_slug(run_id: str) -> str:
    return replay_dataset(f"{USERNAME}/{dataset_slug(run_id)}").partition("/")[2]


def trial(names: tuple[str, ...], cut: bool, replay: bool = False) -> Told:
    """One trial on an embedded Kaggle of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        user = Trial(Path(folder))
        try:
            return user.play_under(names, cut, replay)
        finally:
            user.kaggle.stop()


def chosen_pairs(count: int) -> list[tuple[str, ...]]:
    """So many pairs of faults, spread evenly over all of them."""
    pairs = list(itertools.combinations([name for name in FAULTS if name != "none"], 2))
    return [pairs[(2 * i + 1) * len(pairs) // (2 * count)] for i in range(min(count, len(pairs)))]


def campaign(
    names: list[tuple[str, ...]],
    at_once: int = 1,
    say: Callable[[Told], object] = lambda told: None,
    replay: bool = False,
) -> list[Told]:
    """A trial of each; sessions end and are cut off in turn."""

    def one(place: int, faults: tuple[str, ...]) -> Told:
        try:
            told = trial(faults, cut=place % 2 == 1, replay=replay)
        except (RuntimeError, ValueError, OSError) as error:
            told = Told(" + ".join(faults), "?", wrong=[f"the trial itself failed: {error}"[:300]])
        say(told)
        return told

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, itertools.count(), names))


def row(told: Told) -> str:
    """One trial."""
    held = "holds" if not told.wrong else "WRONG: " + "; ".join(told.wrong)
    return (
        f"{told.name:44s} {told.ends:4s} {told.result:18s} done {told.done:5,} said {told.said:5,} safe {told.safe:5,} "
        f"fetched {told.fetched:5,} worst {told.worst:5,} speed {told.share:4.0%} "
        f"{','.join(told.alerts) or '-':22s} {held}"
    )


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--fault", nargs="*", choices=tuple(FAULTS), help="these alone; all by default")
    options.add_argument("--pairs", type=int, default=0, help="so many pairs of faults besides")
    options.add_argument("--of-pairs", type=int, nargs=2, default=(None,), help="only those from one place to another")
    options.add_argument("--at-once", type=int, default=1, help="trials side by side")
    options.add_argument("--replay", action="store_true", help="a run whose replay chunks have a dataset of their own")
    chosen: Any = options.parse_args(arguments)
    names = [(name,) for name in (FAULTS if chosen.fault is None else chosen.fault)]
    names += chosen_pairs(chosen.pairs)[slice(*chosen.of_pairs)]
    trials = campaign(names, chosen.at_once, lambda told: print(row(told), flush=True), chosen.replay)
    wrong = sum(bool(told.wrong) for told in trials)
    print(f"{len(trials)} trials, {wrong} wrong; worst {max(told.worst for told in trials):,} timesteps at risk")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
