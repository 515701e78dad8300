"""`python -m kernel --config run.json`: a session; with `--check` the trial of its configuration, and nothing else."""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from kernel import phases, pinning
from kernel.contract import events
from kernel.contract.config import Configuration, ConfigurationError

NOT_STARTED = 1


def main(argv: list[str] | None = None) -> int:
    """Run one session, or its trial, in the working folder."""
    parser = argparse.ArgumentParser(prog="python -m kernel")
    parser.add_argument("--config", required=True, type=Path, help="file with both parts of the configuration")
    parser.add_argument("--check", action="store_true", help="try a few episodes and a resume, and say how that went")
    parser.add_argument("--kills", default=0, type=int, help="with --check: go on from so many instants more")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        configuration = Configuration.from_json(arguments.config.read_text("utf-8"))
    except (ConfigurationError, OSError) as error:
        logging.getLogger("kernel").error("%s cannot be used: %s", arguments.config, error)
        return NOT_STARTED
    if arguments.check:
        events.emit(phases.LOADING)
        from kernel.session import process_tree

        pinning.pin()  # the order of sets hangs on it, and only a new process takes it
        with process_tree.ended_after():
            command = [sys.executable, "-u", "-m", "kernel.training", *(argv or sys.argv[1:])]
            return subprocess.run(command, check=False).returncode
    from kernel.session.main import run

    return run(configuration, arguments.config.resolve())


if __name__ == "__main__":
    raise SystemExit(main())
