"""Archives in a dataset version: `shard.zip` becomes the folder `shard/`, within bounds."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kernel.contract.files import aside
from launcher.local_kaggle.files import inside

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CHUNK = 1 << 20


class UnpackError(Exception):
    """An archive that must not be unpacked: it leads out of its folder, holds links, or grows beyond the bounds."""


@dataclass
class Budget:
    """What unpacking may still write."""

    bytes: int
    files: int

    def spend(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise UnpackError("the archives of this version unpack to more than the allowed size")


def folder_name(name: str) -> str | None:
    """The folder that an archive called `name` becomes; None if its name is no archive's."""
    lower = name.lower()
    for suffix in (".zip", *sorted(TAR_SUFFIXES, key=len, reverse=True)):
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def unpack(archive: Path, target: Path, budget: Budget) -> bool:
    """Unpack `archive` into the folder `target`; False (and nothing done) if its bytes are no archive.

    Sizes are counted while writing; what the archive says of itself is not believed. Raises UnpackError.
    """
    if zipfile.is_zipfile(archive):
        members = _zip_members(archive)
    elif tarfile.is_tarfile(archive):
        members = _tar_members(archive)
    else:
        return False
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, stream in members:
            _write(name, stream, target, budget)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise UnpackError(f"{archive.name} cannot be unpacked: {error}") from error
    return True


def _write(name: str, stream: IO[bytes], target: Path, budget: Budget) -> None:
    path = inside(target, name.removeprefix("./"))
    if path is None:
        raise UnpackError(f"member {name!r} leads out of its folder")
    if path.exists():
        raise UnpackError(f"member {name!r} is there twice")
    budget.files -= 1
    if budget.files < 0:
        raise UnpackError("the archives of this version hold more than the allowed number of files")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while chunk := stream.read(CHUNK):
            budget.spend(len(chunk))
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            if info.is_dir():
                continue
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise UnpackError(f"member {info.filename!r} is a link")
            with bundle.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as bundle:
        for info in bundle:
            if info.isdir():
                continue
            stream = bundle.extractfile(info) if info.isreg() else None
            if stream is None:
                raise UnpackError(f"member {info.name!r} is no regular file")
            with stream:
                yield info.name, stream


def pack(folder: Path, target: Path, names: list[str]) -> None:
    """Write `names` below `folder` into the zip `target`, uncompressed, aside and then renamed."""
    with aside(target) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as bundle:
        for name in names:
            bundle.write(folder / name, name)
