"""Files of the service: where they lie, how they are written, which names are allowed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LONGEST_NAME = 255


@dataclass(frozen=True)
class Layout:
    """The state folder: the only place that joins its paths."""

    state_dir: Path

    @property
    def database(self) -> Path:
        return self.state_dir / "kaggle.sqlite"

    @property
    def token(self) -> Path:
        return self.state_dir / "token"

    @property
    def endpoint(self) -> Path:
        return self.state_dir / "server.json"

    @property
    def server_lock(self) -> Path:
        return self.state_dir / "server.lock"

    @property
    def log(self) -> Path:
        return self.state_dir / "server.log"

    def upload(self, upload_id: str) -> Path:
        return self.state_dir / "uploads" / upload_id

    def session(self, session_id: int) -> Path:
        return self.state_dir / "sessions" / str(session_id)

    def root(self, session_id: int) -> Path:
        """What `/` is to a session: holds kaggle/{src,working,input}, home, tmp."""
        return self.session(session_id) / "root"

    def outputs(self, session_id: int) -> Path:
        return self.state_dir / "outputs" / str(session_id)

    def output_bundle(self, session_id: int) -> Path:
        return self.state_dir / "outputs" / f"{session_id}.zip"

    def version(self, dataset_id: int, number: int) -> Path:
        """A dataset version: `incoming/` as uploaded until it is processed, then `files/`, and `archive.zip`."""
        return self.state_dir / "datasets" / str(dataset_id) / str(number)


def is_plain_name(name: str) -> bool:
    """Whether `name` can be one file's or folder's own name and nothing else."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= LONGEST_NAME
        and name not in (".", "..")
        and not any(char in "/\\" or ord(char) < 32 for char in name)
    )


def inside(folder: Path, relative: str) -> Path | None:
    """The path of `relative` under `folder`, or None if it leads out of it or is no clean relative path."""
    parts = PurePosixPath(relative).parts
    if not parts or "\\" in relative or not all(is_plain_name(part) for part in parts):
        return None
    return folder.joinpath(*parts)


def md5_of(path: Path) -> str:
    """Hexadecimal MD5 of a file's bytes (what the storage service reports, not a protection)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def md5_header(md5: str) -> str:
    """The form in which the storage service gives it: base64 of the 16 bytes."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(posix path relative to `folder`, path) of every regular file below it, sorted; links are left out."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                found.append((path.relative_to(folder).as_posix(), path))
    return iter(sorted(found))


def copy_read_only(source: Path, target: Path) -> None:
    """Copy a tree and take all write permissions from the copy; it appears under its name only when complete."""
    aside = target.with_name(f".{target.name}.incoming")
    shutil.copytree(source, aside)
    for parent, _, names in os.walk(aside):
        for name in names:
            os.chmod(os.path.join(parent, name), 0o444)
    for parent, _, _ in os.walk(aside, topdown=False):
        if parent != str(aside):
            os.chmod(parent, 0o555)
    os.rename(aside, target)  # a folder, which takes the place of nothing: no file's way
    os.chmod(target, 0o555)


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it, also what was made read-only; missing is fine."""
    if not folder.exists():
        return
    for parent, names, _ in os.walk(folder):
        for name in names:
            child = os.path.join(parent, name)
            if not os.path.islink(child):
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(child, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
