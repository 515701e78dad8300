"""The trainer process: scratch or resume, then learn; or the trial alone; or a stretch of a training again.

python -m kernel.training --config run.json --folder . --seconds-left 43000
python -m kernel.training --config run.json --check
python -m kernel.training --config run.json --folder stretch --repeat
"""

# ruff: noqa: E402  isolation and pinning must come before the imports that they govern
from __future__ import annotations

import os

if os.environ.get("KAGLAUNCH_BUNDLE"):
    from kernel.isolation import isolate

    isolate(os.environ["KAGLAUNCH_BUNDLE"])

from kernel import pinning

pinning.pin()  # before torch and numpy are imported

import argparse
import logging
from pathlib import Path

from kernel import signals
from kernel.channel import REFUSED, Channel
from kernel.checkpoints.stretch import Stretch
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.names import CHECKPOINTS
from kernel.training import repetition, trial
from kernel.training.resume import Otherwise
from kernel.training.train import REFUSALS, train

logger = logging.getLogger("kernel.training")


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says; 0 for every controlled end."""
    parser = argparse.ArgumentParser(prog="python -m kernel.training")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--folder", default=Path(), type=Path)
    parser.add_argument("--seconds-left", default=43_200.0, type=float)
    parser.add_argument("--check", action="store_true", help="try a few episodes and a resume, and say how that went")
    parser.add_argument("--kills", default=0, type=int, help="with --check: go on from so many instants more")
    parser.add_argument("--pass-over", default="", metavar="CHECKPOINT", help="begin at one before it")
    parser.add_argument("--new-episodes", default="", metavar="REASON", help="leave the environments as they are made")
    parser.add_argument("--repeat", action="store_true", help="execute the stretch in the folder again, and compare")
    arguments = parser.parse_args(argv)
    configuration = Configuration.from_json(arguments.config.read_text("utf-8"))
    if arguments.check:
        return trial.main(configuration, arguments.kills)
    if arguments.repeat:
        signals.prepare_trainer()
        Stretch(arguments.folder).tell(repetition.repeat(configuration, arguments.folder))
        return 0
    otherwise = Otherwise(arguments.pass_over, arguments.new_episodes)
    return _train(configuration, arguments.folder, arguments.seconds_left, otherwise)


def _train(configuration: Configuration, folder: Path, seconds_left: float, otherwise: Otherwise) -> int:
    signals.prepare_trainer()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    channel = Channel.from_environment()
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    try:
        trial.before_training(configuration, folder, channel)
        status, num_timesteps, message = train(configuration, folder, channel, seconds_left, otherwise=otherwise)
    except trial.TrialFailed as failed:
        logger.error("%s", failed)
        channel.ended(Ending.unhealthy if failed.unhealthy else REFUSED, 0, str(failed))
        return 0
    except (*REFUSALS, trial.Refused) as refusal:
        logger.error("%s", refusal)
        channel.ended(REFUSED, 0, str(refusal))
        return 0
    logger.info("%s (%s)", message, status)
    channel.ended(status, num_timesteps, message)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
