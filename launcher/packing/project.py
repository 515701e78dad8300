"""The researcher's own files: which of a folder go into the bundle, under which names, and which stay.

`include` names files and folders of the project's folder; each lands in the bundle under its own last name, so that
`src/signals` is imported as `signals`. Below a named folder these stay: what a .gitignore or .kaglaunchignore there
names, hidden entries, caches, virtual environments, earlier runs, and files that hold credentials by their name.
Symbolic links and special files are refused, for they would be something else on the other machine.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kernel.contract.files import write_aside
from kernel.contract.names import CONFIGURATION, NAMED, PACKAGES_FILE
from launcher import suggestions
from launcher.config import FILE, RunSettings
from launcher.errors import BundleError, ConfigError
from launcher.packing import secrets, wheels
from launcher.reasons import reason

if TYPE_CHECKING:
    import pathspec

IGNORE_FILES = (".gitignore", ".kaglaunchignore")
MAX_FILES = 2_000
MAX_BYTES = 20_000_000
"""Before compression; a kernel script has room for less than a megabyte after it."""
_SKIPPED = frozenset(("__pycache__", "node_modules", "runs", FILE))
TAKEN = frozenset(
    ("kernel", "arz_model", "launcher", *wheels.LIBRARIES, "torch", "numpy", "gymnasium", "numba", "kagglehub")
)
"""Modules that the kernel needs: one of the same name would hide them."""


@dataclass(frozen=True)
class Project:
    """Files to pack: name in the bundle -> content."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """Files that hold credentials by their name and were not packed."""

    @property
    def modules(self) -> list[str]:
        """Names that can be imported from it."""
        return sorted(_modules(self.files))

    def save(self, folder: Path) -> None:
        """Keep the files in `folder`: later sessions of the run pack what the first one did."""
        for name, content in self.files.items():
            write_aside(folder / name, content)

    @classmethod
    def saved(cls, folder: Path) -> Project:
        """What `save` kept there; empty for a run without files of its own."""
        if not folder.is_dir():
            return cls()
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def collect(settings: RunSettings, folder: Path, called: str = "include") -> Project:
    """The files that `settings.include` names below `folder`; without any, the module that `settings.env` names.

    `called` is what whoever gave `include` calls it.

    Raises
    ------
    ConfigError
        A path of `include` is not there, lies outside `folder`, or two of them have one name.
    BundleError
        A link, a special file, a name that cannot be packed, or more than a bundle can ever hold.
    """
    root = folder.resolve()
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for path in _included(settings, folder, root, called):
        top = "" if path.resolve() == root else path.name
        for file, relative in _files(path, folder, left_out, called):
            name = "/".join(filter(None, (top, relative)))
            if name in found and found[name] != file:
                raise ConfigError(
                    f"{called} puts two files at {name}: {found[name]} and {file}.\nName only one of them."
                )
            found[name] = file
            if len(found) > MAX_FILES:
                raise BundleError(
                    f"{called} covers more than {MAX_FILES:,} files below {folder}.\n"
                    "Name the few that the training imports, or put the rest into .kaglaunchignore."
                )
    _refuse_names(found)
    _refuse_size(found, called)
    return Project({name: _read(path) for name, path in sorted(found.items())}, tuple(sorted(left_out)))


def _included(settings: RunSettings, folder: Path, root: Path, called: str) -> list[Path]:
    if not settings.include:
        return [path for name in _named_modules(settings) for path in _module(name, folder)]
    paths = []
    for text in settings.include:
        path = Path(os.path.normpath(folder / text))
        if Path(text).is_absolute() or not path.resolve().is_relative_to(root):
            raise ConfigError(
                f"{called} names {text!r}, which lies outside {folder}.\n"
                "A bundle takes files of the folder that the command runs in: copy it there, or run from its folder."
            )
        if not path.exists() and not path.is_symlink():
            meant = suggestions.did_you_mean(text, sorted(entry.name for entry in folder.iterdir()))
            raise ConfigError(f"{called} names {text!r}, and there is no such file or folder in {folder}.{meant}")
        paths.append(path)
    return paths


def _named_modules(settings: RunSettings) -> list[str]:
    """Top-level modules that the environment and the recipe name as `module:name`."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            for held in value.values():
                yield from texts(held)

    named = [settings.env, settings.policy, *filter(NAMED.fullmatch, texts(settings.hyperparameters))]
    modules = [module for module, colon, _ in (text.partition(":") for text in named) if colon]
    return [name for name in dict.fromkeys(module.partition(".")[0] for module in modules) if name.isidentifier()]


def _module(name: str, folder: Path) -> list[Path]:
    candidates = (folder / name, folder / f"{name}.py")
    found = [path for path in candidates if path.is_file() or (path.is_dir() and any(path.rglob("*.py")))][:1]
    if not found or name not in TAKEN:
        return found
    if found[0].resolve() == Path(__file__).resolve().parents[2] / name:
        return []
    raise ConfigError(f"{found[0]} would land at {found[0].name} and hide the kernel's own {name}.\nRename it.")


def _files(path: Path, folder: Path, left_out: list[str], called: str) -> Iterator[tuple[Path, str]]:
    """Regular files at or below `path`, with their names relative to it (empty for a file)."""
    mode = _mode(path)
    if stat.S_ISREG(mode):
        if secrets.FORBIDDEN_NAMES.fullmatch(path.name):
            raise ConfigError(f"{called} names {path}, a file that holds credentials.\nTake it out.")
        yield path, ""
        return
    yield from _walk(path, path, _ignore_files_above(path, folder), left_out)


def _walk(
    path: Path, top: Path, rules: list[tuple[Path, pathspec.GitIgnoreSpec]], left_out: list[str]
) -> Iterator[tuple[Path, str]]:
    rules = [*rules, *_rules_in(path)]
    for entry in sorted(path.iterdir()):
        if _ignored(entry, stat.S_ISDIR(entry.lstat().st_mode), rules):
            continue
        if secrets.FORBIDDEN_NAMES.fullmatch(entry.name):
            left_out.append(entry.relative_to(top).as_posix())
        elif entry.name.startswith(".") or entry.name in _SKIPPED or (entry / "pyvenv.cfg").exists():
            continue
        elif stat.S_ISDIR(_mode(entry)):
            yield from _walk(entry, top, rules, left_out)
        else:
            yield entry, entry.relative_to(top).as_posix()


def _mode(path: Path) -> int:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise BundleError(
            f"{path} is a symbolic link (to {os.readlink(path)}); a bundle holds files only.\n"
            "Put a copy in its place, or name it in .kaglaunchignore."
        )
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise BundleError(f"{path} is neither a file nor a folder.\nName it in .kaglaunchignore.")
    return mode


def _ignore_files_above(path: Path, folder: Path) -> list[tuple[Path, pathspec.GitIgnoreSpec]]:
    """Rules of the folders from `folder` down to the parent of `path`."""
    below = path.resolve().relative_to(folder.resolve()).parts[:-1]
    steps = [folder, *(folder.joinpath(*below[: i + 1]) for i in range(len(below)))] if path != folder else []
    return [rule for step in steps if step.resolve() != path.resolve() for rule in _rules_in(step)]


def _rules_in(folder: Path) -> list[tuple[Path, pathspec.GitIgnoreSpec]]:
    import pathspec

    found = []
    for name in IGNORE_FILES:
        try:
            lines = (folder / name).read_text("utf-8").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{folder / name} cannot be read: {reason(error, named=False)}.") from error
        try:
            found.append((folder, pathspec.GitIgnoreSpec.from_lines(lines)))
        except ValueError as error:
            raise ConfigError(f"{folder / name} holds a pattern that git would not take: {error}.") from error
    return found


def _ignored(entry: Path, is_folder: bool, rules: list[tuple[Path, pathspec.GitIgnoreSpec]]) -> bool:
    """As git decides: the last rule that speaks wins, those of deeper folders last."""
    for folder, spec in reversed(rules):
        name = entry.relative_to(folder).as_posix() + "/" * is_folder
        verdict = spec.check_file(name).include
        if verdict is not None:
            return bool(verdict)
    return False


def _refuse_names(found: Mapping[str, Path]) -> None:
    for name, path in found.items():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BundleError(f"The name of {path!r} is not UTF-8.\nRename it.") from error
        first = PurePosixPath(name).parts[0]
        module = first.removesuffix(".py")
        if module in TAKEN or first in (CONFIGURATION, PACKAGES_FILE):
            raise ConfigError(f"{path} would land at {name} and hide the kernel's own {module}.\nRename it.")
        if first.endswith(".py") and module in sys.stdlib_module_names:
            raise ConfigError(f"{path} would hide Python's own module {module} in the session.\nRename it.")


def _refuse_size(found: Mapping[str, Path], called: str) -> None:
    sizes = {name: path.stat().st_size for name, path in found.items()}
    if (total := sum(sizes.values())) > MAX_BYTES:
        raise BundleError(
            f"The {len(sizes):,} files of {called} have {total:,} bytes; more than {MAX_BYTES:,} can never fit.\n"
            f"{largest(sizes)}\nName the few that the training imports, or attach large data as a dataset."
        )


def largest(sizes: Mapping[str, int]) -> str:
    """The five largest members, one a line."""
    ordered = sorted(((size, name) for name, size in sizes.items()), reverse=True)
    return "The largest:\n" + "\n".join(f"  {size:>12,} bytes  {name}" for size, name in ordered[:5])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {reason(error, named=False)}.\nName it in .kaglaunchignore."
        ) from error


def _modules(names: Iterable[str]) -> set[str]:
    """`signals.py` and every folder with a Python file somewhere in it."""
    firsts = {PurePosixPath(name).parts[0].removesuffix(".py") for name in names if name.endswith(".py")}
    return {first for first in firsts if first.isidentifier()}
