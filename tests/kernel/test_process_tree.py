"""What an environment starts ends with its trainer and its session, and nothing else on the machine does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernel import processes
from kernel.checkpoints.stretch import Stretch
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.session import process_tree
from kernel.session.process_tree import ProcessTree
from kernel.session.upload import SubprocessUploader
from tests.limits import limit_s, until
from tests.processes import lives

from .servers import KINDS, SERVER
from .support import configuration, environment
from .test_supervisor import Start, start

__all__ = ["start"]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def started(folder: Path) -> dict[str, int]:
    """Process numbers by `KIND.LIFE`."""
    found = [path for kind in KINDS for path in folder.glob(f"{kind}.*") if path.suffix != ".tmp"]
    return {path.name: int(path.read_text()) for path in found}


def require_free(ports: list[int]) -> None:
    """Listen on each of `ports` once."""
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_nothing_that_an_environment_started_outlives_its_trainer_or_the_session(start: Start) -> None:
    ports = free_ports(len(KINDS))
    run = {"env": "serving_environments:ServedAndDying", "env_kwargs": {"ports": ports}, "total_timesteps": 40}
    session = start(run)
    result = session.end()
    # The second life listens on the very ports of the first.
    assert (result["status"], result["restarts"]) == ("finished", 1), result["message"]
    servers = started(session.folder)
    assert len(servers) == 2 * len(KINDS)
    assert [name for name, pid in servers.items() if psutil.pid_exists(pid)] == []
    require_free(ports)


def test_first_sigterm_leaves_an_environment_its_servers_until_the_last_checkpoint(start: Start) -> None:
    ports = free_ports(len(KINDS))
    session = start({"env": "serving_environments:Serving", "env_kwargs": {"ports": ports}, "checkpoint_freq": 10})
    session.wait_for("checkpoint", num_timesteps=10)
    session.process.send_signal(signal.SIGTERM)
    result = session.end()
    assert (result["status"], result["restarts"]) == ("stopped", 0)
    assert [pid for pid in started(session.folder).values() if psutil.pid_exists(pid)] == []


def test_what_kept_its_variables_does_not_outlive_a_parent_that_is_killed(start: Start) -> None:
    ports = free_ports(len(KINDS))
    session = start({"env": "serving_environments:Serving", "env_kwargs": {"ports": ports}, "checkpoint_freq": 10})
    session.wait_for("checkpoint", num_timesteps=10)
    servers, trainer = started(session.folder), session.trainer()
    session.process.kill()
    session.process.wait()
    stranger = psutil.Process(servers.pop("stranger.0"))
    try:
        processes = [trainer, *(psutil.Process(pid) for pid in servers.values() if psutil.pid_exists(pid))]
        _, alive = psutil.wait_procs(processes, timeout=limit_s(10.0))
        assert alive == []
        assert stranger.is_running(), "docs/any-training.md says that this one is out of reach: it is so no more"
    finally:
        stranger.kill()


@pytest.fixture
def tree() -> ProcessTree:
    """The tree of this very process, which has other children besides and adopts no orphans."""
    return ProcessTree()


def serving(tree: ProcessTree, folder: Path, kind: str, *, own: bool = False) -> int:
    """Start a server of `kind`; its process."""
    told = folder / f"{kind}.{len(list(folder.iterdir()))}"
    command = [sys.executable, "-I", "-S", "-c", SERVER, kind, "0", str(told)]
    if own:
        tree.start_own(command)
    else:
        tree.start_trainer(command, dict(os.environ))
    until(told.exists)
    return int(told.read_text())


def test_what_this_process_started_for_itself_or_had_before_is_never_touched(tmp_path: Path) -> None:
    before = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"])
    tree = ProcessTree()
    uploader = SubprocessUploader(tree.start_own)
    try:
        uploads = uploader._started()
        own = serving(tree, tmp_path, "child", own=True)
        trainer = serving(tree, tmp_path, "child")
        assert tree.end() == 1
        assert not psutil.pid_exists(trainer)
        assert before.poll() is None
        assert uploads.poll() is None
        assert psutil.Process(own).status() != psutil.STATUS_ZOMBIE
    finally:
        uploader.close()
        before.kill()
        before.wait()
        for process in tree._own:
            process.kill()
            process.wait()


def test_who_hears_sigterm_is_not_killed_and_who_does_not_is_after_the_grace(tree: ProcessTree, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    listens = (
        f"import signal, pathlib, time; signal.signal(15, lambda *_: (pathlib.Path({str(heard)!r}).touch(), exit()))"
    )
    ready = tmp_path / "ready"
    tree.start_trainer(
        [sys.executable, "-c", f"{listens}; pathlib.Path({str(ready)!r}).touch(); time.sleep(3600)"], dict(os.environ)
    )
    until(ready.exists)
    assert tree.end(limit_s(10.0)) == 1
    assert heard.exists()
    deaf = serving(tree, tmp_path, "deaf")
    began = time.monotonic()
    tree.end(0.3)
    assert time.monotonic() - began >= 0.3
    assert not psutil.pid_exists(deaf)


def test_stopped_process_is_ended_and_leaves_no_zombie(tree: ProcessTree, tmp_path: Path) -> None:
    pid = serving(tree, tmp_path, "child")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    tree.end(limit_s(10.0))
    assert not psutil.pid_exists(pid)


def test_without_a_system_that_tells_of_processes_the_group_of_the_trainer_is_ended(
    tree: ProcessTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = serving(tree, tmp_path, "deaf")
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    tree.adopt_orphans()
    assert sys.platform in tree.why_not_whole
    trainer = tree._trainer
    assert trainer is not None
    tree.end(0.2)
    assert trainer.wait(limit_s(5.0)) == -signal.SIGKILL
    assert trainer.pid == pid


def test_what_left_the_group_of_a_repetition_ends_with_it_and_nothing_else_does(tmp_path: Path) -> None:
    run = RunConfig("repeated-run", 100, 10, env="CartPole-v1")
    stretches = [Stretch.make(tmp_path / name, Configuration(run, SessionConfig())) for name in ("one", "other")]
    leaving = "import subprocess as s, time; s.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"

    def begin(command: list[str], **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen([sys.executable, "-c", leaving], **options)

    begun = [stretch.start(begin) for stretch in stretches]
    until(lambda: all(len(psutil.Process(process.pid).children()) == 1 for process in begun), 60.0)
    left = [psutil.Process(process.pid).children()[0] for process in begun]
    stretches[0].end(begun[0])
    until(lambda: not lives(left[0].pid))
    assert begun[0].returncode == -signal.SIGKILL
    assert lives(left[1].pid)
    stretches[1].end(begun[1])
    until(lambda: not lives(left[1].pid))


@pytest.mark.trains
@pytest.mark.parametrize("killed", [False, True], ids=["to its end", "killed"])
def test_trial_before_a_push_leaves_nothing_of_an_environment_behind(killed: bool, tmp_path: Path) -> None:
    run = {"env": "serving_environments:Serving", "env_kwargs": {"ports": free_ports(len(KINDS))}}
    (tmp_path / "run.json").write_text(json.dumps(configuration(run)))
    command = [sys.executable, "-m", "kernel", "--config", "run.json", "--check"]
    trial = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    if killed:
        until(lambda: len(started(tmp_path)) == len(KINDS), 60.0)
        trial.kill()
        # What emptied its variables is found by a parent that lives, and by nobody else.
        os.kill(started(tmp_path)["stranger.0"], signal.SIGKILL)
    output, _ = trial.communicate(timeout=limit_s(60.0))
    assert killed or '"event": "gate"' in output
    servers = started(tmp_path)
    assert len(servers) == len(KINDS)
    until(lambda: not any(map(lives, servers.values())), 10.0)


ADOPTING = """
import os, subprocess, sys, time
from kernel.session.process_tree import ProcessTree, processes
tree = ProcessTree()
tree.adopt_orphans()
trainer = tree.start_trainer(["sh", "-c", "for i in 1 2 3; do (setsid sleep 0.1 &) ; done; sleep 1"], dict(os.environ))
trainer.wait()
def zombies():
    return [p for p in processes().values() if p.parent == os.getpid() and p.state == "Z"]
while len(zombies()) < 3: time.sleep(0.01)
tree.reap(0.0)
print(len(zombies()), tree.end(), tree.why_not_whole)
"""


def test_orphans_that_end_by_themselves_are_reaped_while_the_trainer_goes_on(tmp_path: Path) -> None:
    root = str(Path(process_tree.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", ADOPTING], cwd=root, capture_output=True, text=True, timeout=limit_s(20.0), check=False
    )
    assert done.stdout.split() == ["0", "0"], done.stderr
