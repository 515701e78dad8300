"""`python -m launcher` is `kaglaunch`."""

from launcher.cli import run

run()
