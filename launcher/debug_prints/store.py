"""`--fix` and `--restore`: originals are kept before anything is written, and put back byte for byte.

    .kaglaunch/debug-prints/manifest.json       {"version": 1, "files": {path: {before, after, mode}}}, sha256 each
    .kaglaunch/debug-prints/originals/<before>  the bytes themselves

Order of `fix`: originals, then the manifest, then one file after the other; each is written aside, synchronised and
renamed into place. Killed anywhere, a file is the original or the fixed one, and the manifest knows both digests.
`restore` puts back what is the fixed one, forgets what is the original, and leaves alone what is neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kernel.contract import files
from launcher.debug_prints.rewrite import Outcome, Rewritten, rewrite
from launcher.debug_prints.scan import Finding, Skipped, Unreadable, read, scan
from launcher.errors import ConfigError, LauncherError

FOLDER = Path(".kaglaunch", "debug-prints")
_MANIFEST = "manifest.json"
_ORIGINALS = "originals"


@dataclass
class Fixed:
    """What `fix` did."""

    store: Path
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


@dataclass
class Restored:
    """What `restore` did."""

    store: Path
    restored: list[Path] = field(default_factory=list)
    refused: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    before: str
    after: str
    mode: int


@dataclass(frozen=True)
class _Change:
    path: Path
    name: str
    old: bytes
    rewritten: Rewritten
    mode: int


def fix(path: Path) -> Fixed:
    """Rewrite every finding of a file or tree; originals go to the store of the tree.

    Raises
    ------
    ConfigError
        `path` does not exist.
    LauncherError
        Its store cannot be used.
    """
    path = path.resolve()
    root = _root(path)
    entries = _entries(root)
    result = Fixed(root / FOLDER)
    found = scan(path)
    result.skipped = found.skipped
    by_file: dict[Path, list[Finding]] = defaultdict(list)
    for finding in found.findings:
        by_file[finding.path].append(finding)
    changes = []
    for file, findings in by_file.items():
        change = _planned(file, findings, root, entries, result)
        if change is not None:
            changes.append(change)
    if changes:
        _keep(root, entries, changes)
    for change in changes:
        _apply(change, root, result)
    return result


def _planned(
    file: Path, findings: list[Finding], root: Path, entries: dict[str, _Entry], result: Fixed
) -> _Change | None:
    name = file.relative_to(root).as_posix()
    try:
        old = file.read_bytes()
        mode = stat.S_IMODE(file.stat().st_mode)
        source = read(file, old)
    except (OSError, Unreadable) as error:
        result.skipped.append(Skipped(file, str(error)))
        return None
    entry = entries.get(name)
    if entry is not None and _digest(old) not in (entry.before, entry.after):
        reason = f"it was changed after an earlier fix, whose original is {FOLDER / _ORIGINALS / entry.before}"
        result.outcomes += [Outcome(finding, "", reason) for finding in findings]
        return None
    rewritten = rewrite(source, findings)
    if rewritten.raw == old:
        result.outcomes += rewritten.outcomes
        return None
    return _Change(file, name, old, rewritten, mode)


def _keep(root: Path, entries: dict[str, _Entry], changes: list[_Change]) -> None:
    """Originals first, the manifest last: it never names an original that is not there."""
    store = root / FOLDER
    if any(part.is_symlink() for part in (store, store.parent)):
        raise LauncherError(f"{store} is a symbolic link; originals are kept in the tree itself.\nRemove the link.")
    (store / _ORIGINALS).mkdir(parents=True, exist_ok=True)
    _write(store / ".gitignore", b"*\n", 0o644)
    for change in changes:
        digest, earlier = _digest(change.old), entries.get(change.name)
        if earlier is None or earlier.before == digest:
            kept = store / _ORIGINALS / digest
            if not kept.is_file() or _digest(kept.read_bytes()) != digest:
                _write(kept, change.old, 0o600)
            entries[change.name] = _Entry(digest, _digest(change.rewritten.raw), change.mode)
        else:
            entries[change.name] = _Entry(earlier.before, _digest(change.rewritten.raw), earlier.mode)
    _write_manifest(store, entries)


def _apply(change: _Change, root: Path, result: Fixed) -> None:
    try:
        if change.path.is_symlink() or change.path.read_bytes() != change.old:
            raise OSError(f"{change.path} was changed meanwhile")
        _write(change.path, change.rewritten.raw, change.mode, _aside(root, change.name))
    except OSError as error:
        reason = f"it cannot be written: {error.strerror or error}"
        result.outcomes += [Outcome(outcome.finding, "", reason) for outcome in change.rewritten.outcomes]
        return
    result.outcomes += change.rewritten.outcomes
    result.written.append(change.path)


def restore(path: Path) -> Restored:
    """Put the originals back below `path`, and remove the store once it keeps nothing.

    Raises
    ------
    ConfigError
        `path` does not exist.
    LauncherError
        The manifest of its store cannot be read.
    """
    if not path.exists():
        raise ConfigError(f"{path} is no file and no folder.\nGive the one that `--fix` was given.")
    path = path.resolve()
    root = _root(path)
    store = root / FOLDER
    entries = _entries(root)
    result = Restored(store)
    for name, entry in list(entries.items()):
        file = root / name
        if not (file == path or file.is_relative_to(path)):
            continue
        reason = _put_back(root, file, name, entry, result)
        if reason:
            result.refused.append(Skipped(file, reason))
        else:
            del entries[name]
    if entries:
        _write_manifest(store, entries)
        needed = {entry.before for entry in entries.values()}
        for kept in (store / _ORIGINALS).iterdir():
            if kept.name not in needed:
                kept.unlink()
    elif store.is_dir() and not store.is_symlink():
        (store / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(store)
        with contextlib.suppress(OSError):  # other things are kept there
            store.parent.rmdir()
    return result


def _put_back(root: Path, file: Path, name: str, entry: _Entry, result: Restored) -> str:
    """Restore one file; returns why not, or ""."""
    try:
        _aside(root, name).unlink(missing_ok=True)
        if file.is_symlink() or not file.resolve().is_relative_to(root):
            return "it is a symbolic link now"
        if not file.exists():
            return f"it was removed after the fix; its original is {FOLDER / _ORIGINALS / entry.before}"
        current, state = file.read_bytes(), file.stat()
        if _digest(current) == entry.before:
            return ""
        if _digest(current) != entry.after:
            return f"it was changed after the fix; its original is {FOLDER / _ORIGINALS / entry.before}"
        original = (root / FOLDER / _ORIGINALS / entry.before).read_bytes()
        if _digest(original) != entry.before:
            return f"its original {FOLDER / _ORIGINALS / entry.before} is damaged"
        _write(file, original, entry.mode, _aside(root, name))
        _drop_bytecode(file, current, state)
    except OSError as error:
        return f"it cannot be put back: {error.strerror or error}"
    result.restored.append(file)
    return ""


def _drop_bytecode(file: Path, fixed: bytes, state: os.stat_result) -> None:
    """Remove bytecode that was compiled from the fixed file, and its folder where nothing else is in it."""
    cache = file.parent / "__pycache__"
    for compiled in cache.glob(f"{file.stem}.*.pyc"):
        with contextlib.suppress(OSError):
            with compiled.open("rb") as stream:
                header = stream.read(16)
            if header[4:8] == bytes(4):
                stamp = int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF
                same = header[8:16] == b"".join(number.to_bytes(4, "little") for number in stamp)
            else:
                same = header[8:16] == importlib.util.source_hash(fixed)
            if same:
                compiled.unlink()
    with contextlib.suppress(OSError):
        cache.rmdir()


# --- files ------------------------------------------------------------------------------------------------------------


def _root(path: Path) -> Path:
    """The tree whose store keeps the originals of `path`: one above it that already has a store, or its own folder."""
    folder = path if path.is_dir() else path.parent
    return next((above for above in (folder, *folder.parents) if (above / FOLDER / _MANIFEST).is_file()), folder)


def _entries(root: Path) -> dict[str, _Entry]:
    manifest = root / FOLDER / _MANIFEST
    if not manifest.is_file():
        return {}
    try:
        files: dict[str, dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        entries = {name: _Entry(**entry) for name, entry in files.items()}
        inside = all(
            not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts for name in entries
        )
        named = all(entry.before.isalnum() and isinstance(entry.mode, int) for entry in entries.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(manifest) from error
    if not (inside and named):
        raise _damaged(manifest)
    return entries


def _damaged(manifest: Path) -> LauncherError:
    return LauncherError(
        f"{manifest} is damaged; nothing was changed.\n"
        f"The originals are in {manifest.parent / _ORIGINALS}, each named by its sha256: put them back by hand, "
        "then remove that folder."
    )


def _write_manifest(store: Path, entries: dict[str, _Entry]) -> None:
    files = {name: vars(entry) for name, entry in sorted(entries.items())}
    _write(store / _MANIFEST, json.dumps({"version": 1, "files": files}, indent=1).encode() + b"\n", 0o644)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _aside(root: Path, name: str) -> Path:
    """Beside the file, by a name that `restore` can work out."""
    return (root / name).parent / f".kaglaunch-{_digest(name.encode())[:16]}.tmp"


def _write(path: Path, raw: bytes, mode: int, beside: Path | None = None) -> None:
    """Whole or not at all, with the mode and where possible the owner that the file had."""
    with files.aside(path, mode=0o600, beside=beside) as stream:
        stream.write(raw)
        with contextlib.suppress(OSError, AttributeError):
            owner = path.stat()
            os.chown(stream.name, owner.st_uid, owner.st_gid)
        os.chmod(stream.name, mode)
