"""What a checkpoint is made of, and whether a file really is one.

A checkpoint is a zip named `checkpoint_t{num_timesteps}.zip`. Its member MANIFEST lists every other member with its
size and sha256; a checkpoint counts only when all of them verify and no other member is there. Kaggle unpacks
archives, so a folder that holds the same members is a checkpoint too.

Standard library only, and nothing here unpickles: the launcher verifies with it what came over the network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from kernel.contract import typed
from kernel.contract.exactness import Exactness
from kernel.contract.names import num_timesteps_of

STATE = "kaglaunch/state.bin"
"""Member with the exact state; its sha256 is `Manifest.state_digest`."""
MANIFEST = "kaglaunch/manifest.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 4_000_000


class CheckpointInvalid(ValueError):
    """Raised when a file is not a whole, untouched checkpoint of the run that was asked for."""


@dataclass(frozen=True)
class Member:
    """One member of a checkpoint: its size [bytes] and sha256 [hex]."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a checkpoint says about itself."""

    run_id: str
    session: int
    """Session that wrote it."""
    num_timesteps: int
    total_timesteps: int
    config_digest: str
    """`RunConfig.digest` of the run."""
    members: Mapping[str, Member]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Training metrics at this timestep; no wall-clock times among them, so that equal runs have equal ones."""
    state_digest: str = ""
    """sha256 of the canonical training state: equal digests continue identically."""
    exact: bool = True
    """False once the run went on where bit-identical continuation was not promised."""
    exactness: Exactness = field(default_factory=Exactness)
    """What is known of that up to this checkpoint, and why."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """What the numbers depend on: CPU, versions, thread counts, canary."""
    parent: str = ""
    """`state_digest` of the checkpoint that this session resumed from; empty when it began from scratch."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further JSON that the writer wants back: configuration, code digest, chunks."""
    format: int = FORMAT

    def to_json(self) -> str:
        """The text of member MANIFEST."""
        # Written with every checkpoint: `asdict` and an indent would cost more than all the hashing.
        members = {name: vars(member) for name, member in self.members.items()}
        values = {**vars(self), "members": members, "exactness": vars(self.exactness)}
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read what `to_json` wrote.

        Raises
        ------
        CheckpointInvalid
            Not JSON, another format, or a key that is missing, unknown or of the wrong type.
        """
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise CheckpointInvalid(f"format {values['format']!r} where {FORMAT} is read")
            members = {str(name): Member(int(m["size"]), str(m["sha256"])) for name, m in values.pop("members").items()}
            found = typed.read(cls, {**values, "members": members})
            if found.exact != found.exactness.is_exact:  # written before `exactness` was
                since = found.exactness.inexact(found.num_timesteps, "an earlier version of kaglaunch said so")
                found = dataclasses.replace(found, exactness=since)
            return found
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, CheckpointInvalid):
                raise
            raise CheckpointInvalid(f"its manifest cannot be read ({type(error).__name__}: {error})") from error


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoint files of `folder` by name alone, newest timestep first; an absent folder has none."""
    if not folder.is_dir():
        return []
    found = [(t, path) for path in folder.iterdir() if (t := num_timesteps_of(path.name)) is not None]
    return [path for _, path in sorted(found, key=lambda item: item[0], reverse=True)]


def verify(path: Path, *, run_id: str | None = None, config_digest: str | None = None) -> Manifest:
    """Read every byte of the checkpoint at `path` (a zip, or a folder of its members) against its manifest.

    Raises
    ------
    CheckpointInvalid
        Torn, altered, incomplete, with members that the manifest does not name, or of another run or configuration.
    OSError
        The file cannot be read.
    """
    try:
        with _opened(path) as (names, open_member):
            return _verify_members(path, names, open_member, run_id, config_digest)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise CheckpointInvalid(f"{path.name} is not a whole zip file: {error}") from error
    except CheckpointInvalid as error:
        raise CheckpointInvalid(f"{path.name}: {error}") from error.__cause__
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # An altered offset leads to before the beginning of the file.
        raise CheckpointInvalid(f"{path.name} is not a whole zip file: {error}") from error


def _verify_members(
    path: Path,
    names: list[str],
    open_member: Callable[[str], IO[bytes]],
    run_id: str | None,
    config_digest: str | None,
) -> Manifest:
    if MANIFEST not in names:
        raise CheckpointInvalid("it has no manifest")
    with open_member(MANIFEST) as stream:
        text = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(text) > MAX_MANIFEST_BYTES:
        raise CheckpointInvalid(f"its manifest is larger than {MAX_MANIFEST_BYTES:,} bytes")
    manifest = Manifest.from_json(text)
    if len(set(names)) != len(names):
        raise CheckpointInvalid("a member occurs twice")
    stray, missing = sorted(set(names) - {MANIFEST} - set(manifest.members)), sorted(set(manifest.members) - set(names))
    if stray or missing:
        raise CheckpointInvalid(f"members not in the manifest: {stray or 'none'}; members missing: {missing or 'none'}")
    for name, member in manifest.members.items():
        found = _measure(open_member, name, member.size)
        if found != member:
            raise CheckpointInvalid(f"member {name} does not have the size and sha256 that the manifest names")
    if STATE in manifest.members and manifest.members[STATE].sha256 != manifest.state_digest:
        raise CheckpointInvalid("its state does not have the digest that the manifest names")
    if (named := num_timesteps_of(path.name)) is not None and named != manifest.num_timesteps:
        raise CheckpointInvalid(f"its manifest is of timestep {manifest.num_timesteps}")
    if run_id is not None and manifest.run_id != run_id:
        raise CheckpointInvalid(f"it belongs to run {manifest.run_id!r}, not {run_id!r}")
    if config_digest is not None and manifest.config_digest != config_digest:
        raise CheckpointInvalid("it was made with another configuration of the run")
    return manifest


def _measure(open_member: Callable[[str], IO[bytes]], name: str, expected_size: int) -> Member:
    """Size and sha256 of a member, reading at most one chunk more than `expected_size` bytes."""
    digest, size = hashlib.sha256(), 0
    with open_member(name) as stream:
        while size <= expected_size and (chunk := stream.read(1 << 20)):
            digest.update(chunk)
            size += len(chunk)
    return Member(size, digest.hexdigest())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Callable[[str], IO[bytes]]]]:
    if path.is_dir():
        names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        yield names, lambda name: (path / name).open("rb")
        return
    if path.exists() and not path.is_file():
        # Opening a pipe that nobody writes to would wait for ever.
        raise CheckpointInvalid("it is no regular file")
    with zipfile.ZipFile(path) as archive:
        # Stored members cannot expand: what is read is never more than the file itself.
        if packed := [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]:
            raise CheckpointInvalid(f"member {packed[0]} is compressed")
        yield [info.filename for info in archive.infolist() if not info.is_dir()], archive.open
