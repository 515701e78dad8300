"""`python -m kaglaunch` is `kaglaunch`."""

from launcher.cli import run

run()
