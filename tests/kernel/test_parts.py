"""The small parts: clocks, cadence, health, the codec, isolation, events."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_kernel_support import ROOT, environment

from kernel import health
from kernel.checkpoints import sources
from kernel.contract.manifest import CheckpointInvalid
from kernel.process import process_age
from kernel.session.deadline import Deadline
from kernel.session.memory import MemoryLimit
from kernel.training import codec
from kernel.training.cadence import Cadence
from kernel.training.pace import Pace


def deadline(now: list[float], **kwargs: Any) -> Deadline:
    return Deadline(0.0, 43_200.0, clock=lambda: now[0], **kwargs)


def test_margin_covers_what_publishes_took_within_its_bounds() -> None:
    d = deadline([0.0])
    assert d.margin == 120.0
    d.published_in(100.0)
    assert d.margin == 300.0
    d.published_in(5000.0)
    for _ in range(30):
        d.published_in(100.0)
    assert d.margin == 300.0, "one outlier does not cost the session a quarter of an hour"
    assert deadline([0.0], measured=[4000.0]).margin == 900.0
    assert Deadline(0.0, 60.0, clock=lambda: 0.0).margin == 15.0


def test_deadline_orders_upload_stop_and_limit() -> None:
    now = [0.0]
    d = deadline(now)
    assert d.may_begin_upload
    now[0] = 43_200.0 - 200.0
    assert not d.may_begin_upload
    assert d.training_seconds_left > 0
    now[0] = 43_200.0 - 100.0
    assert d.training_seconds_left < 0 < d.upload_seconds_left < d.seconds_left


@pytest.mark.parametrize(
    ("files", "total", "kills"),
    [
        ({"memory.max": "3000000\n", "memory.events": "oom 4\noom_kill 2\n"}, 3_000_000, 2),
        ({"memory/memory.limit_in_bytes": "5000000\n", "memory/memory.oom_control": "oom_kill 1\n"}, 5_000_000, 1),
        ({"memory.max": "max\n"}, psutil.virtual_memory().total, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, psutil.virtual_memory().total, 0),
        ({}, psutil.virtual_memory().total, 0),
    ],
    ids=["version 2", "version 1", "no limit", "no limit, version 1", "no groups"],
)
def test_memory_limit_is_read_from_groups_of_either_version(
    files: dict[str, str], total: int, kills: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    limit = MemoryLimit(os.getpid(), tmp_path)
    assert (limit.total_bytes(), limit.oom_kills()) == (total, kills)


def test_process_age_is_told_by_no_wall_clock(tmp_path: Path) -> None:
    assert 0.0 < process_age() < 24 * 3600
    (tmp_path / "stat").write_text("1 (a) b) S " + " ".join(["0"] * 18) + " 5000 0")
    (tmp_path / "uptime").write_text("80.5 1.0")
    assert process_age(tmp_path / "stat", tmp_path / "uptime") == pytest.approx(30.5, abs=1.0)
    assert process_age(tmp_path / "none") == 0.0


def run_cadence(step_s: float, cost_s: float, seconds: float, **kwargs: Any) -> tuple[Cadence, int]:
    cadence = Cadence(10, **kwargs)
    cadence.begin(0.0, 0)
    now, t, taken = 0.0, 0, 0
    while now < seconds:
        now += step_s
        t += 1
        if cadence.is_due(now, t):
            cadence.taken(now, t)
            cadence.cost(cost_s)
            taken += 1
            now += cost_s
    return cadence, taken


def test_cheap_checkpoints_come_at_every_multiple() -> None:
    _, taken = run_cadence(0.05, 0.002, 1000.0)
    assert taken == pytest.approx(1000.0 / 0.5, rel=0.01)


def test_dear_checkpoints_are_stretched_to_one_percent() -> None:
    cadence, _ = run_cadence(0.001, 0.02, 2000.0)
    assert cadence.spent <= 2.0 + 0.01 * 2000.0 + 0.02
    assert cadence.spent > 0.9 * (2.0 + 0.01 * 2000.0)
    assert cadence.newly_stretched(0.0) is not None
    assert cadence.newly_stretched(0.0) is None, "it says so once"


def test_slow_steps_are_checkpointed_by_the_clock() -> None:
    cadence = Cadence(1000, max_seconds=60.0)
    cadence.begin(0.0, 0)
    assert not cadence.is_due(59.0, 5)
    assert cadence.is_due(60.0, 6)
    assert not Cadence(1000, max_seconds=0.0).is_due(1e6, 6)


def findings(**kwargs: Any) -> set[str]:
    good: dict[str, Any] = {
        "rewards": [float(i % 7) for i in range(200)],
        "actions": [(i * i) % 3 for i in range(200)],
        "episode_returns": [1.0, 2.0],
        "logged": {"train/loss": 0.1},
        "num_actions": 3,
    }
    return {finding.rule for finding in health.training_findings(**{**good, **kwargs})}


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        ({}, set()),
        ({"rewards": [0.01] * 200, "episode_returns": []}, {"constant_reward"}),
        ({"rewards": [1.0] * 200, "episode_returns": [12.0, 31.0]}, set()),
        ({"rewards": [0.01] * 199, "episode_returns": []}, set()),
        ({"actions": [1] * 200}, {"one_action"}),
        ({"actions": [0, 1] * 100}, {"alternating_actions"}),
        ({"actions": [0] * 200, "num_actions": 0}, set()),
        ({"logged": {"train/loss": math.nan}}, {"not_finite"}),
        ({"rewards": [1.0, 2.0, math.inf]}, {"not_finite"}),
    ],
)
def test_health_rule_speaks_for_what_it_is_for_and_nothing_else(changed: dict[str, Any], rules: set[str]) -> None:
    assert findings(**changed) == rules


def test_health_finding_is_told_once_until_it_goes_away() -> None:
    watch = health.Health()
    assert len(watch.fresh(health.speed_findings(1.0))) == 1
    assert watch.fresh(health.speed_findings(1.0)) == []
    assert watch.fresh(health.speed_findings(50.0)) == []
    assert len(watch.fresh(health.speed_findings(1.0))) == 1
    assert [f.rule for f in health.memory_findings(95, 100)] == ["memory"]
    assert list(health.memory_findings(80, 100)) == []


def test_calibration_counts_evaluations_and_leaves_the_first_step_out() -> None:
    pace = Pace(10_000, eval_freq=1000, began=0.0, first_timestep=0, seconds_left=2000.0)
    pace.step(30.0, 1)  # compiling
    now = 30.0
    calibrations = []
    for t in range(2, 400):
        now += 0.1
        pace.step(now, t)
        if t == 100:
            pace.evaluated(60.0)
            now += 60.0
        told = pace.calibration(now, t)
        calibrations += [told] if told else []
    before, said = calibrations
    assert before.evaluation_seconds is None
    assert said.steps_per_s == pytest.approx(10.0, rel=0.02)
    assert said.evaluation_seconds == pytest.approx(9 * 60.0)
    assert said.seconds_needed == pytest.approx(990 + 540, rel=0.02)
    assert said.fits is True
    late = Pace(10_000, eval_freq=0, began=0.0, first_timestep=0, seconds_left=100.0)
    for t in range(1, 60):
        late.step(t * 0.1, t)
    assert late.calibration(6.0, 59).fits is False  # type: ignore[index]


def test_calibration_counts_what_the_training_waits_for_publishes() -> None:
    pace = Pace(1_000, eval_freq=0, began=0.0, first_timestep=0, seconds_left=2000.0)
    pace.step(0.0, 1)
    now, told = 0.0, []
    for t in range(2, 202):
        now += 0.1
        pace.step(now, t)
        if t % 20 == 0 and t > 60:
            pace.waited(4.0)
            now += 4.0
        told += [said] if (said := pace.calibration(now, t)) else []
    before, said = told
    assert (before.waiting_seconds, before.seconds_needed) == (0.0, pytest.approx(98.8))
    assert said.steps_per_s == pytest.approx(10.0, rel=0.02)
    assert said.waiting_seconds == pytest.approx(920 / 79 * 4.0, rel=0.02)
    assert said.seconds_needed == pytest.approx(said.waiting_seconds + 92.0, rel=0.02)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=4),
        st.lists(inner, max_size=4).map(lambda items: deque(items, 9)),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_codec_gives_back_what_it_took(tree: Any) -> None:
    again = codec.decode(codec.encode(tree))
    assert repr(again) == repr(tree)
    assert codec.encode(again) == codec.encode(tree)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
def test_codec_gives_back_arrays_bit_for_bit(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    again = codec.decode(codec.encode({"a": array, "n": np.float32(0.1), "nan": float("nan")}))
    assert again["a"].dtype == array.dtype
    assert again["a"].shape == array.shape
    assert again["a"].tobytes() == array.tobytes()
    assert again["n"] == np.float32(0.1)
    assert math.isnan(again["nan"])


def test_codec_refuses_objects_and_says_where_they_lie() -> None:
    with pytest.raises(codec.NotEncodable, match=r"state\.env\[1\]"):
        codec.encode({"env": [1, object()]})
    with pytest.raises(codec.NotEncodable):
        codec.encode(np.array([object()]))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_codec_survives_any_damage_without_allocating_more_than_it_was_given(data: Any) -> None:
    whole = codec.encode({"a": np.arange(20.0), "b": [1, (2, 3)], "c": {"x": 1}})
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        tree = codec.decode(bytes(damaged))
    except codec.Undecodable:
        return
    assert len(codec.encode(tree)) < 3 * len(whole)


def test_absurd_sizes_in_a_state_are_refused() -> None:
    for shape in ([2**60], [2**31, 2**31], [-1], [1.5]):
        header = json.dumps({"arrays": [["<f8", shape]], "tree": {"$": "a", "i": 0}}).encode()
        data = codec.MAGIC + len(header).to_bytes(8, "little") + header
        with pytest.raises(codec.Undecodable):
            codec.decode(data)
    with pytest.raises(codec.Undecodable):
        codec.decode(codec.MAGIC + (2**62).to_bytes(8, "little") + b"{}")
    nested = b"[" * 100_000 + b"]" * 100_000
    header = b'{"arrays":[],"tree":' + nested + b"}"
    with pytest.raises(codec.Undecodable):
        codec.decode(codec.MAGIC + len(header).to_bytes(8, "little") + header)


def isolated(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    begin = f"import sys; sys.path.insert(0, {str(folder)!r}); from kernel.isolation import isolate; "
    return subprocess.run(
        [sys.executable, "-c", begin + code], env=environment(), capture_output=True, text=True, timeout=60
    )


def bundle(folder: Path, *names: str) -> Path:
    import shutil

    shutil.copytree(ROOT / "kernel", folder / "kernel", ignore=shutil.ignore_patterns("__pycache__"))
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("HERE = True\n")
    return folder


def test_only_the_bundle_provides_our_packages(tmp_path: Path) -> None:
    folder = bundle(tmp_path, "arz_model")
    done = isolated(
        folder, f"isolate({str(folder)!r}); import arz_model, kernel.contract.config; print(arz_model.HERE)"
    )
    assert done.stdout.strip() == "True", done.stderr
    missing = isolated(folder, f"isolate({str(folder)!r}); import launcher")
    assert "ModuleNotFoundError" in missing.stderr
    assert "other copies are not used" in missing.stderr


def test_package_imported_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    done = isolated(folder, f"sys.path.insert(0, {str(ROOT)!r}); import arz_model; isolate({str(folder)!r})")
    assert "NotIsolated" in done.stderr


def test_further_packages_of_a_bundle_are_isolated_too(tmp_path: Path) -> None:
    folder = bundle(tmp_path, "my_model")
    (folder / "packages.json").write_text('["my_model", "toy_environments"]')
    done = isolated(folder, f"isolate({str(folder)!r}); import my_model; print('ok'); import toy_environments")
    assert done.stdout.strip() == "ok"
    assert "No module named 'toy_environments'" in done.stderr


def test_segment_names_cannot_lead_elsewhere() -> None:
    from kernel.contract import segments
    from kernel.contract.manifest import Manifest

    for name in ("../../etc/passwd", "replay_0_1_zz.bin", "/tmp/x", 7):
        manifest = Manifest("quick-run", 1, 1, 1, "", {}, details={"segments": [{"name": name}]})
        with pytest.raises(CheckpointInvalid):
            segments.listed(manifest)
    assert sources.mounted_folders("") == []
