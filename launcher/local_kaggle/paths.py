"""Where everything of the embedded Kaggle lies below its state folder, and names that may not leave it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from launcher.local_kaggle.errors import bad_request


class Layout:
    """The folders of one installation; all are private to the user."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir
        self.database = state_dir / "kaggle.sqlite"
        self.uploads = state_dir / "uploads"
        self.datasets = state_dir / "datasets"
        self.sessions = state_dir / "sessions"
        self.token = state_dir / "token"
        self.address = state_dir / "address.json"
        self.lock = state_dir / "lock"
        self.log = state_dir / "server.log"

    def make(self) -> None:
        """Create what is missing."""
        for folder in (self.root, self.uploads, self.datasets, self.sessions):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def session(self, session_id: int) -> Path:
        """Everything of one session."""
        return self.sessions / str(session_id)

    def working(self, session_id: int) -> Path:
        """Its /kaggle/working."""
        return self.session(session_id) / "kaggle" / "working"

    def log_of(self, session_id: int) -> Path:
        """Its log, one JSON event a line."""
        return self.session(session_id) / "log.jsonl"

    def exit_of(self, session_id: int) -> Path:
        """How its process ended, written by its runner."""
        return self.session(session_id) / "exit.json"

    def version(self, dataset_id: int, number: int) -> Path:
        """Files of one dataset version."""
        return self.datasets / str(dataset_id) / str(number)


def relative_name(name: str) -> str:
    """`name` as a clean relative POSIX path. Raises 400 for one that would leave its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise bad_request(f"Invalid file name: {name!r}")
    return path.as_posix()


def write_aside(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `path` whole or not at all, readable by its owner alone."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
