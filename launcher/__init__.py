"""kaglaunch, the part that runs on your machine: push, watch, fetch, resume."""

__version__ = "0.1.0"
