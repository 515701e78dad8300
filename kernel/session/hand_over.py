"""Put the newest checkpoint of a folder into the run's dataset, wherever it was trained; the next session mounts it.

python -m kernel.session.hand_over --config handover.json --folder RUN

Standard library only, but for the client that `kernel.session.upload` imports.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from kernel.checkpoints import staging
from kernel.checkpoints.digests import read_digests
from kernel.contract import events
from kernel.contract.config import Configuration
from kernel.contract.names import CHECKPOINTS
from kernel.session.deadline import Deadline
from kernel.session.publisher import Publisher
from kernel.session.upload import SubprocessUploader

MAX_SECONDS = 3600.0


def main(argv: list[str] | None = None) -> int:
    """Publish once, tried again while there is time; 0 when the newest checkpoint is in the dataset."""
    parser = argparse.ArgumentParser(prog="python -m kernel.session.hand_over")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path, help="folder that holds checkpoints/")
    parser.add_argument("--seconds", default=MAX_SECONDS, type=float, help="longest time that it may take")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    configuration = Configuration.from_json(arguments.config.read_text("utf-8"))
    newest = staging.newest_verified(arguments.folder, configuration)
    if newest is None:
        return 1
    digests = read_digests(arguments.folder / CHECKPOINTS)
    uploader = SubprocessUploader()
    deadline = Deadline(time.monotonic(), arguments.seconds)
    publisher = Publisher(arguments.folder, configuration, deadline, uploader, events.emit, lambda: digests)
    try:
        publisher.start()
        publisher.close()
    finally:
        uploader.close()
    return 0 if publisher.published == newest[1].num_timesteps else 1


if __name__ == "__main__":
    raise SystemExit(main())
