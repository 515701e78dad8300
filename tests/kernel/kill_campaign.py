"""Train, kill with SIGKILL at a random instant, resume, until finished; then compare with a run nobody killed.

    python kill_campaign.py FOLDER CASE KILLS SEED

Everything is imported once and each training is a fork, so that hundreds of real kills take a minute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kernel import pinning

pinning.pin()

from kernel.channel import Channel  # noqa: E402
from kernel.checkpoints.digests import read_digests  # noqa: E402
from kernel.contract import chunks  # noqa: E402
from kernel.contract.config import Configuration, RunConfig, SessionConfig  # noqa: E402
from kernel.contract.manifest import checkpoints_in, verify  # noqa: E402
from kernel.training import train  # noqa: E402

_PPO = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "policy_kwargs": {"net_arch": [16, 16]}}
_DQN = {
    "buffer_size": 150,
    "learning_starts": 40,
    "batch_size": 16,
    "target_update_interval": 50,
    "exploration_fraction": 0.5,
    "policy_kwargs": {"net_arch": [16]},
}
_OFF = {"learning_starts": 40, "batch_size": 16, "policy_kwargs": {"net_arch": [16]}}
_CONTINUOUS = {"env": "Pendulum-v1", "checkpoint_freq": 7, "total_timesteps": 160}
CASES: dict[str, dict[str, Any]] = {
    "ppo-boundary": {"checkpoint_freq": 32, "total_timesteps": 320, "hyperparameters": _PPO},
    "ppo-any-step": {"checkpoint_freq": 7, "total_timesteps": 192, "hyperparameters": _PPO},
    "ppo-continuous": {
        "env": "Pendulum-v1",
        "checkpoint_freq": 11,
        "total_timesteps": 192,
        "hyperparameters": {**_PPO, "learning_rate": "lin_1e-3"},
    },
    "ppo-4-envs-normalised": {
        "env": "toy_environments:ContractQueue",
        "checkpoint_freq": 12,
        "total_timesteps": 320,
        "n_envs": 4,
        "normalize": True,
        "hyperparameters": {**_PPO, "n_steps": 16, "learning_rate": "lin_1e-3"},
        "eval_freq": 100,
        "eval_episodes": 1,
    },
    "ppo-opaque": {
        "env": "toy_environments:OpaqueQueue",
        "checkpoint_freq": 9,
        "total_timesteps": 192,
        "n_envs": 2,
        "hyperparameters": _PPO,
    },
    "ppo-named": {
        "checkpoint_freq": 7,
        "total_timesteps": 192,
        "hyperparameters": {
            **_PPO,
            "policy": "toy_networks:Policy",
            "learning_rate": "toy_networks:warm_up",
            "policy_kwargs": {
                "features_extractor_class": "toy_networks:Halves",
                "activation_fn": "torch.nn.ELU",
                "optimizer_class": "torch.optim:RAdam",
                "net_arch": [8],
            },
        },
    },
    "a2c": {"algorithm": "A2C", "checkpoint_freq": 7, "total_timesteps": 200, "hyperparameters": {"n_steps": 8}},
    "dqn-any-step": {
        "algorithm": "DQN",
        "checkpoint_freq": 7,
        "total_timesteps": 240,
        "hyperparameters": {**_DQN, "train_freq": 4},
    },
    "dqn-episodes": {
        "algorithm": "DQN",
        "checkpoint_freq": 13,
        "total_timesteps": 240,
        "hyperparameters": {**_DQN, "train_freq": [2, "episode"], "gradient_steps": -1},
    },
    "dqn-wide": {  # rows of 4 kB: a chunk is sealed each 16 of them
        "algorithm": "DQN",
        "env": "toy_environments:Wide",
        "checkpoint_freq": 7,
        "total_timesteps": 400,
        "hyperparameters": _DQN,
    },
    "dqn-n-step": {
        "algorithm": "DQN",
        "checkpoint_freq": 7,
        "total_timesteps": 240,
        "hyperparameters": {**_DQN, "n_steps": 3, "exploration_final_eps": 0.2},
    },
    "dqn-less-memory": {
        "algorithm": "DQN",
        "checkpoint_freq": 7,
        "total_timesteps": 280,
        "n_envs": 2,
        "hyperparameters": {
            **_DQN,
            "optimize_memory_usage": True,
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
    },
    "qrdqn": {"algorithm": "QRDQN", "checkpoint_freq": 7, "total_timesteps": 240, "hyperparameters": _DQN},
    "ppo-explores-by-state": {
        **_CONTINUOUS,
        "hyperparameters": {**_PPO, "use_sde": True, "sde_sample_freq": 3},
        "n_envs": 2,
        "total_timesteps": 320,
    },
    "sac": {**_CONTINUOUS, "algorithm": "SAC", "hyperparameters": {**_OFF, "buffer_size": 100}},
    "sac-explores-by-state": {
        **_CONTINUOUS,
        "algorithm": "SAC",
        "n_envs": 2,
        "total_timesteps": 200,
        "hyperparameters": {
            **_OFF,
            "use_sde": True,
            "sde_sample_freq": 2,
            "train_freq": 5,
            "gradient_steps": 2,
            "ent_coef": 0.1,
        },
    },
    "td3-noise": {
        **_CONTINUOUS,
        "algorithm": "TD3",
        "n_envs": 2,
        "hyperparameters": {**_OFF, "noise_type": "ornstein-uhlenbeck", "noise_std": 0.3, "train_freq": 3},
    },
    "ddpg": {**_CONTINUOUS, "algorithm": "DDPG", "hyperparameters": {**_OFF, "noise_type": "normal", "noise_std": 0.3}},
    "tqc": {**_CONTINUOUS, "algorithm": "TQC", "hyperparameters": _OFF},
    "crossq": {**_CONTINUOUS, "algorithm": "CrossQ", "hyperparameters": _OFF},
    "her": {
        "env": "toy_environments:Reach",
        "algorithm": "SAC",
        "policy": "MultiInputPolicy",
        "n_envs": 2,
        "checkpoint_freq": 9,
        "total_timesteps": 260,
        "hyperparameters": {
            **_OFF,
            "buffer_size": 160,
            "train_freq": 4,
            "replay_buffer_class": "HerReplayBuffer",
            "replay_buffer_kwargs": {"n_sampled_goal": 3, "goal_selection_strategy": "future"},
        },
    },
    "maskable-ppo": {
        "env": "toy_environments:Masked",
        "algorithm": "MaskablePPO",
        "checkpoint_freq": 7,
        "total_timesteps": 320,
        "n_envs": 2,
        "hyperparameters": _PPO,
        "eval_freq": 100,
        "eval_episodes": 1,
    },
    "recurrent-ppo": {
        "algorithm": "RecurrentPPO",
        "checkpoint_freq": 7,
        "total_timesteps": 256,
        "n_envs": 2,
        "hyperparameters": {**_PPO, "policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 8}},
        "eval_freq": 100,
        "eval_episodes": 1,
    },
    "trpo": {
        **_CONTINUOUS,
        "algorithm": "TRPO",
        "total_timesteps": 320,
        "hyperparameters": {"n_steps": 32, "batch_size": 16, "policy_kwargs": {"net_arch": [16]}, "cg_max_steps": 5},
    },
    "ars": {
        "algorithm": "ARS",
        "checkpoint_freq": 50,
        "total_timesteps": 1500,
        "hyperparameters": {"n_delta": 2, "delta_std": "lin_0.1"},
    },
    "dqn-2-envs-normalised": {
        "algorithm": "DQN",
        "env": "toy_environments:Queue",
        "checkpoint_freq": 10,
        "total_timesteps": 280,
        "n_envs": 2,
        "normalize": True,
        "hyperparameters": {**_DQN, "gradient_steps": -1},
    },
}


def configuration(case: str) -> Configuration:
    """The run of `case`."""
    run = {"run_id": "killed-run", "env": "CartPole-v1", **CASES[case]}
    return Configuration(RunConfig(**run), SessionConfig(keep_checkpoints=3, device="cpu"))


def fork(configuration: Configuration, folder: Path) -> int:
    """Train in a child process; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        (folder / "checkpoints").mkdir(exist_ok=True)
        status, _, _ = train.train(configuration, folder, Channel(), 1e6)
        code = 0 if status == "finished" else 3
    except BaseException as error:  # noqa: BLE001  the fork ends here
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def warm_up(configuration: Configuration, folder: Path) -> None:
    """Train a little in this process: what is imported at the first update is there for every fork."""
    short = dataclasses.replace(configuration.run, total_timesteps=64)
    (folder / "checkpoints").mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        train.train(Configuration(short, configuration.session), folder, Channel(), 1e6)


def undisturbed(configuration: Configuration, folder: Path) -> float:
    """Train without kills; seconds it took."""
    folder.mkdir()
    began = time.monotonic()
    _, status = os.waitpid(fork(configuration, folder), 0)
    assert status == 0, (folder / "error.txt").read_text()
    return time.monotonic() - began


def killed(configuration: Configuration, folder: Path, seconds: float, chance: random.Random) -> dict[str, int]:
    """Train with kills until the run is finished; what was seen on the way."""
    folder.mkdir()
    seen = {"kills": 0, "invalid": 0, "starts": 0, "went_back": 0}
    newest = 0
    while True:
        pid = fork(configuration, folder)
        seen["starts"] += 1
        # Later attempts get longer, so that a run ends however unlucky it is.
        until = time.monotonic() + chance.uniform(0.0, seconds * (0.4 + seen["starts"] / 40))
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            time.sleep(0.0005)
        if done == (0, 0):
            os.kill(pid, signal.SIGKILL)
            done = os.waitpid(pid, 0)
        seen["kills"] += os.WIFSIGNALED(done[1])
        if os.WIFEXITED(done[1]):
            assert os.WEXITSTATUS(done[1]) == 0, (folder / "error.txt").read_text()
            return seen
        visible = checkpoints_in(folder / "checkpoints")
        for path in visible:
            try:
                chunks.verify(path, verify(path))
            except ValueError:
                seen["invalid"] += 1
        reached = max((verify(path).num_timesteps for path in visible), default=0)
        seen["went_back"] += reached < newest
        newest = reached


def compare(expected: Path, found: Path, name: str) -> list[str]:
    """Every way in which the killed run differs from the other."""
    wrong = []
    want, have = read_digests(expected / "checkpoints"), read_digests(found / "checkpoints")
    wrong += [f"state at {t}" for t in have if t in want and have[t] != want[t]]
    if max(want) != max(have):
        wrong.append("last timestep")
    if (expected / "metrics.jsonl").read_bytes() != (found / "metrics.jsonl").read_bytes():
        wrong.append("metrics")
    last = verify(checkpoints_in(found / "checkpoints")[0])
    if not last.exact:
        wrong.append("marked inexact")
    return [f"{name}: {what}" for what in wrong]


def main() -> None:
    """Run the trials of one case; one JSON line of what was seen."""
    folder, case, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    wanted = configuration(case)
    warm_up(wanted, folder / "warm")
    seconds = undisturbed(wanted, folder / "undisturbed")
    total: dict[str, Any] = {"case": case, "seconds": round(seconds, 2), "trials": 0, "kills": 0, "wrong": []}
    while total["kills"] < kills:
        trial = total["trials"]
        total["trials"] += 1
        where = folder / f"trial-{trial}"
        seen = killed(wanted, where, seconds, chance)
        for key, value in seen.items():
            total[key] = total.get(key, 0) + value
        total["wrong"] += compare(folder / "undisturbed", where, f"trial {trial}")
        shutil.rmtree(where)
    sys.stdout.write(json.dumps(total) + "\n")


if __name__ == "__main__":
    main()
