"""What a session runs: the first event, the supervisor, the result.

python -m kernel --config run.json
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

from kernel import pinning, signals
from kernel.checkpoints.digests import read_digests
from kernel.contract import events
from kernel.contract.config import Configuration, ConfigurationError
from kernel.contract.result import Result
from kernel.isolation import isolate
from kernel.session.deadline import Deadline, process_age
from kernel.session.event_governor import EventGovernor
from kernel.session.publisher import Publisher
from kernel.session.supervisor import Supervisor
from kernel.session.upload import SubprocessUploader

logger = logging.getLogger(__name__)

NOT_STARTED = 1


def main(argv: list[str] | None = None) -> int:
    """Run one session in the working folder; 0 for every controlled end, because only then are outputs kept."""
    parser = argparse.ArgumentParser(prog="python -m kernel")
    parser.add_argument("--config", required=True, type=Path, help="file with both parts of the configuration")
    parser.add_argument("--check", action="store_true", help="try it for ten timesteps and say how that went")
    arguments = parser.parse_args(argv)
    began = time.monotonic() - process_age()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        configuration = Configuration.from_json(arguments.config.read_text("utf-8"))
    except (ConfigurationError, OSError) as error:
        logger.error("%s cannot be used: %s", arguments.config, error)
        return NOT_STARTED
    if arguments.check:
        return _check(configuration)
    _announce(configuration)
    folder = Path.cwd()
    try:
        result = _supervise(configuration, folder, arguments.config.resolve(), began)
    except Exception as error:
        # The process ends here, and with any other exit code than 0 the platform throws the checkpoints away.
        logger.exception("The supervisor failed.")
        result = Result("crashed", message=f"The supervisor failed: {type(error).__name__}: {error}")
    try:
        result.write(folder)
    except OSError as error:
        logger.error("result.json could not be written: %s", error)
    events.emit("result", **asdict(result))
    return 0


def _check(configuration: Configuration) -> int:
    """The trial alone, in this process: isolated and pinned as the trainer is before anything heavy is imported."""
    if folder := os.environ.get("KAGLAUNCH_BUNDLE"):
        isolate(folder)
    pinning.pin()
    from kernel.training import trial

    return trial.main(configuration)


def _announce(configuration: Configuration) -> None:
    run, session = configuration.run, configuration.session
    events.emit(
        "session",
        session_id=events.session_id(),
        run_id=run.run_id,
        session=session.session,
        total_timesteps=run.total_timesteps,
        dataset=session.dataset,
        device=session.device,
        max_seconds=session.max_seconds,
        python=platform.python_version(),
        host=platform.node(),
        cpus=os.cpu_count(),
    )


def _supervise(configuration: Configuration, folder: Path, config_file: Path, began: float) -> Result:
    session = configuration.session
    deadline = Deadline(began, session.max_seconds, session.margin_seconds)
    governed = EventGovernor(events.emit)
    uploader = SubprocessUploader()
    publisher = None
    if session.dataset:
        publisher = Publisher(
            folder, configuration, deadline, uploader, governed.event, lambda: read_digests(folder / "checkpoints")
        )
    supervisor = Supervisor(folder, config_file, configuration, deadline, publisher, governed)
    signals.on_terminate(supervisor.terminate)
    try:
        return supervisor.run()
    finally:
        governed.flush()
        uploader.close()
