"""Files that are there whole or not at all, whatever ends the process or the machine.

Written beside, flushed, synchronised, renamed, and the folder synchronised where the system can: whoever reads the
name finds the content before or the content after, and after a power cut too. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

READABLE_NAME = 40
"""Characters of the file's own name in the name beside it: names may be as long as a file system takes."""
NO_FOLDERS_TO_SYNCHRONISE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EISDIR)
_number = itertools.count()


def write_aside(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `path` whole or not at all; folders that it needs are made.

    Parameters
    ----------
    mode : int
        Permissions of the file, less what the process masks.

    Raises
    ------
    OSError
        No space, a read-only disk: the file is as it was, and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path, mode=mode) as file:
        file.write(content)


@contextlib.contextmanager
def aside(path: Path, *, mode: int = 0o666, beside: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write into that becomes `path` when the block ends, and vanishes when the block raises.

    Parameters
    ----------
    beside : Path, optional
        Its name until then, in the same folder: for whoever has to find what a kill left. One that no other
        writer takes by default.
    """
    beside = beside or path.with_name(f".{path.name[:READABLE_NAME]}.{os.getpid()}-{next(_number)}.aside")
    beside.unlink(missing_ok=True)
    try:
        with open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    synchronise_folder(path.parent)


def put_in_place(whole: Path, path: Path) -> None:
    """Give the file `whole`, written and closed, the name `path`, in the place of what has it."""
    with whole.open("r+b") as file:  # Windows synchronises only what could be written
        os.fsync(file.fileno())
    os.replace(whole, path)
    synchronise_folder(path.parent)


def synchronise_folder(folder: Path) -> None:
    """Put names in `folder` on the disk, where the system opens folders (Windows does not)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in NO_FOLDERS_TO_SYNCHRONISE:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDERS_TO_SYNCHRONISE:
            raise
    finally:
        os.close(descriptor)
