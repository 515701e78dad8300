"""State digests of every checkpoint that a run wrote, newest last; they outlive the checkpoints themselves.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import BinaryIO

from kernel.contract.files import write_aside
from kernel.contract.names import DIGESTS

LONGEST_LINE = 1 << 16


def append_lines(path: Path, text: str) -> None:
    """Add whole lines to a file, on the disk when this returns; a torn last line of a killed writer goes first.

    Raises
    ------
    OSError
        No space, a read-only disk: the file is as it was.
    """
    with path.open("ab+") as file:
        size = _whole_lines(file)
        try:
            file.truncate(size)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), size)
            raise


def _whole_lines(file: BinaryIO) -> int:
    """How many bytes of `file` are lines with their end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LONGEST_LINE))
    tail = file.read()
    return size if not tail or tail.endswith(b"\n") else size - len(tail) + tail.rfind(b"\n") + 1


def append_digest(folder: Path, num_timesteps: int, digest: str) -> None:
    """Record one more."""
    append_lines(folder / DIGESTS, _line(num_timesteps, digest))


def read_digests(folder: Path) -> dict[int, str]:
    """State digests by timestep that `folder` recorded; a torn line is left out."""
    try:
        lines = (folder / DIGESTS).read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found: dict[int, str] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[int(entry["num_timesteps"])] = str(entry["state_digest"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def add_published(folder: Path, index: Path) -> None:
    """Take over the digests that a published `index.json` lists, without replacing ours."""
    try:
        published = json.loads(index.read_text("utf-8")).get("digests", {})
        entries = {int(t): str(digest) for t, digest in published.items()}
    except (OSError, ValueError, AttributeError):
        return
    ours = read_digests(folder)
    text = "".join(_line(t, digest) for t, digest in sorted({**entries, **ours}.items()))
    write_aside(folder / DIGESTS, text.encode())


def _line(num_timesteps: int, digest: str) -> str:
    return json.dumps({"num_timesteps": num_timesteps, "state_digest": digest}) + "\n"
