"""What a session runs: the first event, the supervisor, the result."""

from __future__ import annotations

import logging
import os
import platform
import time
from pathlib import Path

from kernel import signals
from kernel.checkpoints.digests import read_digests
from kernel.contract import events, names
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.events import Result
from kernel.contract.result import write_result
from kernel.process import process_age
from kernel.session.deadline import Deadline
from kernel.session.event_governor import EventGovernor
from kernel.session.process_tree import ProcessTree
from kernel.session.publisher import Publisher
from kernel.session.replay_restore import ReplayRestore
from kernel.session.supervisor import Supervisor
from kernel.session.upload import SubprocessUploader

logger = logging.getLogger(__name__)


def run(configuration: Configuration, config_file: Path) -> int:
    """Run one session in the working folder; 0 for every controlled end, because only then are outputs kept."""
    began = time.monotonic() - process_age()
    _announce(configuration)
    folder = Path.cwd()
    try:
        result = _supervise(configuration, folder, config_file, began)
    except Exception as error:
        # The process ends here, and with any other exit code than 0 the platform throws the checkpoints away.
        logger.exception("The supervisor failed.")
        result = Result(status=Ending.crashed, message=f"The supervisor failed: {type(error).__name__}: {error}")
    signals.ignore_terminate()  # there is nothing left that could end sooner, and outputs to lose
    try:
        write_result(result, folder)
    except OSError as error:
        logger.error("result.json could not be written: %s", error)
    events.emit(result)
    return 0


def _announce(configuration: Configuration) -> None:
    run, session = configuration.run, configuration.session
    events.emit(
        events.Session(
            session_id=names.session_id(),
            run_id=run.run_id,
            session=session.session,
            total_timesteps=run.whole_timesteps,
            dataset=session.dataset,
            device=session.device,
            max_seconds=session.max_seconds,
            python=platform.python_version(),
            host=platform.node(),
            cpus=os.cpu_count(),
        )
    )


def _supervise(configuration: Configuration, folder: Path, config_file: Path, began: float) -> Result:
    session = configuration.session
    deadline = Deadline(began, session.max_seconds, session.margin_seconds)
    governed = EventGovernor(events.emit)
    tree = ProcessTree()
    tree.adopt_orphans()
    tree.guard()
    uploader = SubprocessUploader(tree.start_own)
    publisher = replay = None
    if session.dataset:
        publisher = Publisher(
            folder, configuration, deadline, uploader, governed.event, lambda: read_digests(folder / names.CHECKPOINTS)
        )
        replay = ReplayRestore(folder / names.CHECKPOINTS, configuration, uploader)
    supervisor = Supervisor(folder, config_file, configuration, deadline, publisher, governed, tree=tree, replay=replay)
    signals.on_terminate(supervisor.terminate)
    try:
        return supervisor.run()
    finally:
        governed.flush()
        uploader.close()
