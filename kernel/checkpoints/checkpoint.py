"""Write a checkpoint so that no kill leaves half of one under its name, and read it without running anything of it.

    checkpoint_t500.zip
    ├── data, policy.pth, policy.optimizer.pth, _stable_baselines3_version    what `stable_baselines3.PPO.load` reads
    ├── kaglaunch/state.bin       the exact state (kernel.training.codec); the only member that resuming reads
    ├── kaglaunch/metrics.jsonl   the last rows of the run's metrics
    └── kaglaunch/manifest.json   size and sha256 of each of the others (kernel.contract.manifest)

Members are stored, never compressed. The file comes into being whole: written without a name, synced, then linked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kernel.contract import chunks, names
from kernel.contract.manifest import MANIFEST, STATE, CheckpointInvalid, Manifest, Member

METRICS_MEMBER = "kaglaunch/metrics.jsonl"
TEMPORARY = ".tmp-"
REFUSED = ".refused"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_bytes(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    """The file of `members`, with `manifest` completed by their sizes and hashes and written last."""
    listed = {name: Member(len(data), hashlib.sha256(data).hexdigest()) for name, data in members.items()}
    text = dataclasses.replace(manifest, members=listed).to_json().encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [*members.items(), (MANIFEST, text)]:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return file.getvalue()


def write_new(path: Path, data: bytes) -> None:
    """Create `path` with `data`, whole or not at all, and on the disk when this returns.

    No `files.write_aside`: that replaces, and this must not; a file without a name leaves no rest for a kill to
    litter the folder with that is published; and the folder that was opened is the one written to, whatever its path
    means by then.

    Raises
    ------
    FileExistsError
        The name is taken: what was written once is never replaced.
    OSError
        No space, a read-only disk; nothing is left behind.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _write_unnamed(folder, path.name, data):
            _write_aside(folder, path.name, data)
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_unnamed(folder: int, name: str, data: bytes) -> bool:
    """Write a file that has no name until it is whole; False where the file system has no such files."""
    unnamed = getattr(os, "O_TMPFILE", 0)  # Linux only
    if not unnamed:
        return False
    try:
        file = os.open(".", unnamed | os.O_WRONLY, 0o644, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return False
        raise
    try:
        _write_all(file, data)
        os.fsync(file)
        try:
            # follow_symlinks and both folder descriptors are what makes Python call linkat with AT_SYMLINK_FOLLOW.
            os.link(f"/proc/self/fd/{file}", name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP):
                return False
            raise
        return True
    finally:
        os.close(file)


def _write_aside(folder: int, name: str, data: bytes) -> None:
    aside = f"{TEMPORARY}{os.getpid()}-{name}"
    file = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644, dir_fd=folder)
    try:
        try:
            _write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        _link_or_rename(folder, aside, name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=folder)


def _link_or_rename(folder: int, aside: str, name: str) -> None:
    try:
        os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.access(name, os.F_OK, dir_fd=folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sweep(folder: Path) -> list[str]:
    """Remove what a killed writer may have left aside in `folder`, and beside its replay chunks; its names."""
    beside = folder / chunks.FOLDER
    found = [*folder.glob(f"{TEMPORARY}*"), *beside.glob(f"{TEMPORARY}*"), *beside.glob(".*.aside")]
    left = [path for path in found if path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return [path.name for path in left]


def read_member(path: Path, name: str, limit: int) -> bytes:
    """One member of a checkpoint, a zip or a folder of members, of at most `limit` bytes.

    Raises
    ------
    CheckpointInvalid
        It is not there, or larger.
    """
    try:
        with _member(path, name) as stream:
            data = stream.read(limit + 1)
    except (KeyError, FileNotFoundError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointInvalid(f"{path.name} has no member {name}") from error
    if len(data) > limit:
        raise CheckpointInvalid(f"{path.name}: member {name} is larger than {limit:,} bytes")
    return data


@contextlib.contextmanager
def _member(path: Path, name: str) -> Iterator[Any]:
    if path.is_dir():
        with (path / name).open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        yield stream


def read_state(path: Path, manifest: Manifest) -> bytes:
    """The bytes of the exact state of a checkpoint that `manifest.verify` accepted."""
    member = manifest.members.get(STATE)
    if member is None:
        raise CheckpointInvalid(f"{path.name} holds no {STATE}: it is no checkpoint of kaglaunch")
    data = read_member(path, STATE, member.size)
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise CheckpointInvalid(f"{path.name} changed while it was read")
    return data


def refuse(path: Path) -> None:
    """Set an invalid checkpoint aside: under its new name nothing takes it for a checkpoint again."""
    with contextlib.suppress(OSError):
        os.replace(path, path.with_name(path.name + REFUSED))


def leave_weights(path: Path) -> Path:
    """Give a checkpoint whose replay chunks are kept no more the name that says so; where it lies then.

    Under that name nothing resumes from it, and everything that asks for its weights alone can read it.
    """
    num_timesteps = names.num_timesteps_of(path.name)
    assert num_timesteps is not None
    target = path.with_name(names.weights_name(num_timesteps))
    with contextlib.suppress(OSError):
        os.replace(path, target)
        return target
    return path


def import_into(folder: Path, source: Path, manifest: Manifest) -> Path:
    """A verified checkpoint from elsewhere, a published file or an unpacked tree, as a file of `folder`."""
    target = folder / names.checkpoint_name(manifest.num_timesteps)
    if source.is_dir():
        members = {name: read_member(source, name, member.size) for name, member in manifest.members.items()}
        data = to_bytes(manifest, members)
    else:
        data = source.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        write_new(target, data)
    return target
