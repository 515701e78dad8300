"""The checklist before a push: a FAIL spends nothing, a waiver is by name and kept, and no check is silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.events import Gate, from_plain
from launcher import paths, training_extra
from launcher.checks import account, flood, preflight, quota, trial
from launcher.cli import main
from launcher.documents import schema
from launcher.errors import NotFound
from launcher.local_kaggle.service import LocalKaggle
from launcher.targets.base import ActiveSession, Kernel, Quota
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend
from tests import wheels
from tests.limits import limit_s, until
from tests.processes import lives

pytestmark = pytest.mark.trains  # a trial is told to have been, or is
FACTORY = """
import gymnasium


class Cart(gymnasium.Wrapper):
    def step(self, action):
        {statement}
        return super().step(action)


def make():
    return Cart(gymnasium.make("CartPole-v1"))
"""
GOOD = {
    "event": "gate",
    "checks": [{"name": name, "verdict": "PASS", "evidence": "seen", "fix": ""} for name in trial.NAMES],
    "steps_per_s": 100.0,
    "played_timesteps": 1_000,
    "evaluation_s": 0.0,
    "evaluation_over": True,
    "startup_s": 10.0,
    "device": "cpu",
}


@pytest.fixture
def kaggle(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalKaggle]:
    """The embedded Kaggle of a user whose cache holds the wheel and no trial."""
    cache = tmp_path / "cache"
    wheels.share(cache)
    monkeypatch.setattr(paths, "cache_dir", lambda: cache)
    service = LocalKaggle(paths.state_dir() / "local-kaggle")
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(queue_s=30.0)
    yield service
    service.stop()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Trials answer with the next of these events instead of training; they are taken from the front."""
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(trial, "_run", lambda folder, note, kills: told(events.pop(0)))
    return events


def told(event: dict[str, Any]) -> trial.Told:
    """What a trial says that ends in `event`."""
    gate = from_plain(event)
    assert isinstance(gate, Gate)
    return trial.Told(gate)


def _json(capsys: pytest.CaptureFixture[str], name: str = "") -> Any:
    """What was printed, held against the schema of that document."""
    found = json.loads(capsys.readouterr().out)
    if name:
        jsonschema.Draft202012Validator(schema.json_schema(name)).validate(found)
    return found


def _checks(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in report["checks"]}


def _nothing_spent(kaggle: LocalKaggle, capsys: pytest.CaptureFixture[str]) -> bool:
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    return kaggle.status()["sessions"] == [] and _json(capsys) == []


def test_a_flood_is_refused_before_anything_is_spent_and_pushed_only_by_its_name(
    home: Path, kaggle: LocalKaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "signals.py").write_text(FACTORY.format(statement='print("[DEBUG_BC_GPU] left")'))
    arguments = ["push", "--quick", "--env", "signals:make"]
    assert main(arguments) == 3
    seen = capsys.readouterr()
    assert "signals.py:7" in seen.out
    assert "[DEBUG_BC_GPU]" in seen.out
    assert "lines a timestep" in seen.out
    assert "--waive debug-prints" in seen.err
    assert _nothing_spent(kaggle, capsys)

    assert main([*arguments, "--waive", "debug-prints", "--json"]) == 0
    pushed = _json(capsys, "push")
    assert pushed["preflight"]["waived"] == pushed["sent"]["session"]["waived"] == ["debug-prints"]
    kept = json.loads((home / "runs" / pushed["run_id"] / "session-1.json").read_text())
    assert kept["preflight"]["waived"] == ["debug-prints"]
    assert kept["configuration"]["run"]["env"] == {"value": "signals:make", "source": "flag"}
    assert [session["kernel"] for session in kaggle.status()["sessions"]] == [pushed["kernel"]["id"]]


def test_a_flood_that_no_source_shows_is_found_by_what_the_trial_printed(
    home: Path, kaggle: LocalKaggle, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = "__import__('sys').stdout.write('w' * 20 + chr(10))"
    (home / "signals.py").write_text(FACTORY.format(statement=statement))
    assert main(["preflight", "--quick", "--env", "signals:make", "--json"]) == 3
    report = _json(capsys, "preflight")
    (check,) = [check for check in report["checks"] if check["verdict"] == "FAIL"]
    assert check["name"] == "debug-prints"
    assert report["measured"]["lines_per_timestep"] == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("steps_per_s", [3.0, 99.0, 5_000.0])
def test_a_line_every_timestep_is_a_flood_however_slow_this_machine_is(steps_per_s: float, tmp_path: Path) -> None:
    assert flood.check(tmp_path, 0.98, steps_per_s).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("steps_per_s", "verdict"), [(3.0, Verdict.PASS), (1_900.0, Verdict.PASS), (2_100.0, Verdict.FAIL)]
)
def test_a_line_an_episode_is_a_flood_where_episodes_pass_in_an_instant(
    steps_per_s: float, verdict: Verdict, tmp_path: Path
) -> None:
    assert flood.check(tmp_path, 0.05, steps_per_s).verdict is verdict


def test_a_trial_that_passed_is_remembered_until_the_code_or_the_recipe_changes(
    home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "signals.py").write_text(FACTORY.format(statement="pass"))
    arguments = ["preflight", "--env", "signals:make"]
    tried += [GOOD] * 4
    assert main(arguments) == 0
    assert main([*arguments, "--timesteps", "5000"]) == 0
    assert len(tried) == 3
    assert main([*arguments, "--again"]) == 0
    assert len(tried) == 2
    assert main([*arguments, "--seed", "7"]) == 0
    assert len(tried) == 1
    (home / "signals.py").write_text(FACTORY.format(statement="self.steps = 1"))
    assert main(arguments) == 0
    assert tried == []


def test_a_trial_that_failed_is_tried_again(home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]]) -> None:
    bad = {**GOOD, "checks": [{"name": "environment", "verdict": "FAIL", "evidence": "still", "fix": "move"}]}
    tried += [bad, bad]
    assert main(["preflight", "--env", "CartPole-v1"]) == 3
    assert main(["preflight", "--env", "CartPole-v1"]) == 3
    assert tried == []


@pytest.mark.parametrize(
    ("gate", "fault", "advised"),
    [
        ({"ends_training": True}, {}, None),
        ({"ends_training": False}, {}, "`--waive checkpointing`"),
        ({"ends_training": False}, {"quota_used_h": 29.9}, "`--waive quota --waive checkpointing`"),
        ({"ends_training": True}, {"quota_used_h": 29.9}, None),
    ],
)
def test_a_waiver_is_advised_where_it_would_get_the_run_trained(
    home: Path,
    kaggle: LocalKaggle,
    tried: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    gate: dict[str, Any],
    fault: dict[str, Any],
    advised: str | None,
) -> None:
    broken = {"name": "checkpointing", "verdict": "FAIL", "evidence": "the light is broken", "fix": "Mend it."}
    tried += [{"event": "gate", "checks": [broken], **gate}]
    for name, value in fault.items():
        kaggle.set_fault(name, value)
    assert main(["push", "--env", "CartPole-v1"]) == 3
    said = capsys.readouterr().err
    assert (advised or "Mend what it found") in said
    assert ("--waive" in said) is bool(advised)


def test_a_waiver_is_not_advised_beside_what_none_waives() -> None:
    plan = Check("plan", Verdict.FAIL, "too long")
    for checks, advised in (((plan,), True), ((plan, Check("credentials", Verdict.FAIL, "refused")), False)):
        with pytest.raises(preflight.PreflightFailed) as raised:
            preflight.Report(checks).refuse()
        assert ("--waive plan" in str(raised.value)) is advised


def test_a_plan_that_does_not_fit_is_refused_with_what_would(
    home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    tried += [GOOD]
    assert main(["push", "--timesteps", "2000000", "--max-hours", "2", "--env", "CartPole-v1"]) == 3
    seen = capsys.readouterr().out
    assert "2,000,000 timesteps, 2,000,896 with whole rollouts, take 5.6 h" in seen
    assert "--max-hours 6" in seen
    assert "--timesteps 700000" in seen
    assert "--relay" in seen
    assert _nothing_spent(kaggle, capsys)


@pytest.mark.parametrize(
    ("fault", "verdict", "code"),
    [
        ({"quota_used_h": 29.72}, "FAIL", 3),
        ({"quota_used_h": 18.45}, "FAIL", 3),
        ({"quota_used_h": 18.35}, "PASS", 0),
        ({"quota_unreadable": True}, "WARN", 0),
        ({"http_error": {"method": "GetAcceleratorQuotaStatistics", "status": 403, "times": 9}}, "WARN", 0),
    ],
)
def test_hours_that_are_not_there_block_and_hours_that_nobody_tells_do_not(
    home: Path,
    kaggle: LocalKaggle,
    tried: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    fault: dict[str, Any],
    verdict: str,
    code: int,
) -> None:
    tried += [GOOD]
    for name, value in fault.items():
        kaggle.set_fault(name, value)
    assert main(["preflight", "--env", "CartPole-v1", "--json"]) == code
    assert _checks(_json(capsys))["quota"] == verdict


def test_reserved_hours_are_not_left_and_the_cpu_costs_none() -> None:
    reserved = Quota(used_h=10, reserved_h=12, allowed_h=30, refresh=None)
    assert quota.judge(reserved, "", "NvidiaTeslaT4", 7.9).verdict is Verdict.PASS
    refused = quota.judge(reserved, "", "NvidiaTeslaT4", 8.0)
    assert refused.verdict is Verdict.FAIL
    assert "--max-hours 7.9" in refused.fix
    assert quota.judge(None, "it is Monday", None, 12).verdict is Verdict.PASS


def test_sessions_that_wait_or_run_are_counted_by_their_kind(kaggle: LocalKaggle) -> None:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    backend = KaggleBackend(endpoint.url, Credentials("a test", endpoint.token, endpoint.username), patience_s=1)
    for number, accelerator in enumerate(("NvidiaTeslaT4", None, "NvidiaTeslaT4"), start=1):
        backend.push(Kernel(f"sleepy-kernel-s{number}", b"print(1)\n", accelerator, 600))
    found = backend.active_sessions()
    assert {session.slug for session in found if session.on_gpu} == {"sleepy-kernel-s1", "sleepy-kernel-s3"}
    assert account.free_slot(found, on_gpu=True).verdict is Verdict.FAIL
    assert account.free_slot(found, on_gpu=False).verdict is Verdict.PASS
    backend.delete("sleepy-kernel-s3")
    assert account.free_slot(backend.active_sessions(), on_gpu=True).verdict is Verdict.PASS


class _Account:
    """A target that answers as it is told to."""

    username = "alice"

    def __init__(self, versions: Any) -> None:
        self.versions = versions

    def active_sessions(self) -> list[ActiveSession]:
        raise NotFound("403: Permission was denied")

    def dataset_versions(self, name: str) -> Any:
        if isinstance(self.versions, Exception):
            raise self.versions
        return self.versions


def test_what_cannot_be_asked_is_a_warning_and_not_a_verdict() -> None:
    backend: Any = _Account(NotFound("403"))
    found, check = account.active(backend)
    assert (found, check.verdict) == (None, Verdict.WARN)
    assert account.free_slot(found, on_gpu=True).verdict is Verdict.WARN
    assert account.dataset(backend, "alice/some-run-ckpt").verdict is Verdict.WARN


def test_a_dataset_of_another_account_fails() -> None:
    backend: Any = _Account([])
    assert account.dataset(backend, "bob/some-run-ckpt").verdict is Verdict.FAIL
    assert account.dataset(backend, "alice/some-run-ckpt").verdict is Verdict.PASS


def test_credentials_that_stop_working_fail(home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]]) -> None:
    tried += [GOOD]
    kaggle.set_fault("http_error", {"method": "ListKernels", "status": 401, "times": 9})
    assert main(["push", "--env", "CartPole-v1"]) == 3
    assert kaggle.status()["sessions"] == []


@pytest.mark.parametrize("name", ["no-such-check", "secrets", "credentials", "bundle"])
def test_only_what_may_be_waived_is_and_the_names_are_listed(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["preflight", "--waive", name]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert all(waivable in said for waivable in preflight.WAIVABLE)


def test_every_check_of_a_report_can_be_waived_or_never(
    home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    tried += [GOOD]
    assert main(["preflight", "--env", "CartPole-v1", "--json"]) == 0
    assert set(_checks(_json(capsys))) == set(preflight.WAIVABLE) | set(preflight.FIXED)


def test_without_the_training_extra_the_trial_warns_and_is_left_to_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_extra, "missing", lambda packages=(): ["torch", "numba"])
    found = trial.run(_configuration(), "digest", tmp_path, note=lambda text: None)
    assert {check.name: check.verdict for check in found.checks} == dict.fromkeys(trial.NAMES, Verdict.WARN)
    assert {check.evidence for check in found.checks} == {"It cannot be tried here without torch, numba."}
    assert found.measured is None


def _configuration() -> Configuration:
    return Configuration(RunConfig("quick-abcdef", 100, 10), SessionConfig())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('one last word'); raise SystemExit(3)", "exit code 3; its last line: one last word"),
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
        ("import time; print('waiting', flush=True); time.sleep(3600)", "within LIMIT s; its last line: waiting"),
        ("import os; print([name for name in os.environ if 'KAGGLE' in name])", r"its last line: []"),
    ],
)
def test_a_trial_that_says_nothing_is_a_failure_that_tells_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    longest_s = limit_s(1.0)
    monkeypatch.setattr(trial, "TIMEOUT_S", longest_s)
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_of_the_user")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "__main__.py").write_text(code)
    found = trial.run(_configuration(), "digest", tmp_path, note=lambda text: None)
    assert found.checks[0].verdict is Verdict.FAIL
    assert said.replace("LIMIT", f"{longest_s:.0f}") in found.checks[0].evidence


SPEAKS = """
import json, pathlib, time
def say(**event):
    print("@kaglaunch " + json.dumps(event), flush=True)
say(event="phase", phase="loading", detail="loading torch")
while not pathlib.Path(GO).exists():
    time.sleep(0.01)
print("the recipe prints")
print("@kaglaunch {torn")
say(event="phase", phase="of_a_newer_kernel", detail="a nap")
print(json.dumps("no end of line"), end="\\n@kaglaunch " + json.dumps(GATE))
"""


def test_the_phases_of_a_trial_are_told_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_S", limit_s(20))
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "cache")
    go, told = tmp_path / "go", list[str]()

    def note(text: str) -> None:
        told.append(text)
        if text == "Loading torch":
            go.touch()

    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "__main__.py").write_text(f"GO, GATE = {str(go)!r}, {GOOD!r}\n{SPEAKS}")
    found = trial.run(_configuration(), "digest", tmp_path, note=note)
    assert told[1:] == ["Loading torch", "A nap"]
    assert {check.verdict for check in found.checks} == {Verdict.PASS}
    assert found.measured is not None
    assert found.measured.lines_per_timestep == 3 / 1_000


def test_a_trial_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "cache")
    (tmp_path / "kernel").mkdir()
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    (tmp_path / "kernel" / "__main__.py").write_text(f"{child}; print(p.pid)")
    found = trial.run(_configuration(), "digest", tmp_path, note=lambda text: None)
    pid = int(found.checks[0].evidence.split()[-1])
    until(lambda: not lives(pid))


def test_a_dry_run_tells_all_of_it_as_json_and_sends_nothing(
    home: Path, kaggle: LocalKaggle, tried: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    tried += [GOOD]
    (home / "signals.py").write_text(FACTORY.format(statement="pass"))
    (home / "kaglaunch.toml").write_text('[run]\nenv = "signals:make"\ntimesteps = 5000\n[watch]\n')
    assert main(["push", "--dry-run", "--json", "--max-hours", "3", "--device", "cpu"]) == 0
    said = _json(capsys, "push-dry-run")
    assert said["files"]["signals.py"] == len((home / "signals.py").read_bytes())
    assert said["configuration"]["run"]["timesteps"] == {"value": 5000, "source": "kaglaunch.toml"}
    assert said["configuration"]["session"]["max_hours"] == {"value": 3.0, "source": "flag"}
    assert said["sent"]["run"]["total_timesteps"] == 5000
    assert said["kernel"]["session_timeout_s"] == 10_800
    assert said["kernel"]["is_private"] is True
    assert said["kernel"]["title"] == said["kernel"]["id"].split("/")[1]
    assert said["preflight"]["plan"]["hours"] == pytest.approx(6144 / 100 / 3600), "three whole rollouts"
    assert len(said["script_sha256"]) == 64
    assert _nothing_spent(kaggle, capsys)
    assert not (home / "runs").exists()


def test_an_address_that_is_a_secret_is_neither_echoed_nor_kept(
    home: Path,
    kaggle: LocalKaggle,
    tried: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried += [GOOD]
    monkeypatch.setenv("KAGLAUNCH_WATCH_NOTIFY_WEBHOOK", "https://hooks.example/T0/very-own-secret")
    assert main(["push", "--dry-run", "--env", "CartPole-v1"]) == 0
    assert main(["push", "--json", "--env", "CartPole-v1"]) == 0
    said = capsys.readouterr()
    kept = "".join(path.read_text() for path in (home / "runs").rglob("*") if path.is_file())
    assert "very-own-secret" not in said.out + said.err + kept
    assert '"notify_webhook": {"value": "(hidden)", "source": "environment"}' in said.out
