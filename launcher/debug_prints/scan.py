"""Unconditional debug output in a tree of Python files, found by syntax tree.

A `print` to the console is reported under the first of these rules that holds:

tagged
    Its text begins with a debug tag: `[DEBUG…]`, `[GPU DEBUG]`, `<dbg>`, `DEBUG:`, `DEBUG x =`, in any string form.
    Wherever it stands. Text that only contains the word is no tag.
jitted
    It stands in a function that a compiler gets: numba's jit, njit, cuda.jit, vectorize, … as a decorator in any
    spelling, or by a call such as `fast = njit(step)`.
per-step
    It stands in a function that runs once per timestep: one named step, apply, update, forward, kernel, advance, …
    that does not loop over timesteps itself; `step` (and `reset`, once per episode) of an environment; `_on_step` of a
    callback; and whatever one of these, or a loop over timesteps, calls in the same module.
loop
    It stands in a loop, or in a comprehension.

Not reported:

guarded
    What a condition on verbosity holds back (`if verbose`, `if self.debug`, `if logger.isEnabledFor(…)`, `if not debug:
    return` before it, the else-branch of `if quiet`), or one that thins it out (`if step % 1000 == 0`, `if step == 0`,
    `if done`, `if now - last_log > 5`). A condition on data guards nothing; its estimate is "at most". `__debug__`
    is true by default and guards nothing.
said on failure
    Untagged text in an `except` handler, before a `raise` or an exit, under a test for NaN or errors, or that begins
    with ERROR or WARNING. It is evidence.
said to a person
    Untagged text in a command-line module (cli.py, __main__.py, folders cli, commands, bin); and in a loop, other than
    one over timesteps, of `main`, of a click or typer command, of a function named like `print_table` or `show_…`, and
    below `if __name__ == "__main__"`.
not the builtin, or not the console
    A `print` that the module defines, imports or takes as an argument; a `file=` other than stdout and stderr.
everything else
    An untagged print outside loops and per-step functions, such as `print("finished")`.

The estimate is what the source proves: one line per run of the function, times the loops of constant length around the
print. A loop of unknown length counts once, and the estimate is "at least".
"""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import os
import re
import stat
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from launcher.debug_prints import rules
from launcher.debug_prints.scope import Names
from launcher.errors import ConfigError

SKIPPED_FOLDERS = {
    *("node_modules", "__pycache__", "site-packages", "dist-packages", "build", "dist"),
    *("venv", "vendor", "_vendor", "third_party"),
}
"""Not looked into below the given path; nor are hidden folders, and those with a pyvenv.cfg."""

_SHOWN = 80
_PRINT = re.compile(rb"print\s*(?:\\\r?\n\s*)?\(")
_JIT_CALL = re.compile(rb"^(?![ \t]*@).*jit\w*[ \t]*\(", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One print that runs without being asked to."""

    path: Path
    line: int
    column: int
    """In bytes of the line's UTF-8, as `ast` counts."""
    rule: str
    text: str
    lines: int
    per: str
    """"timestep", "episode", "iteration", "call", "thread" or "import"."""
    at_least: bool
    at_most: bool
    """The print stands under a condition on data."""
    basis: str
    compiled: bool

    @property
    def lines_per_timestep(self) -> int | None:
        """Lower bound where `at_least`; None where the module does not say how often the print runs per timestep."""
        return self.lines if self.per == "timestep" else None

    @property
    def estimate(self) -> str:
        """Such as "at least 3 lines per timestep"."""
        bound = "" if self.at_least and self.at_most else "at least " * self.at_least + "at most " * self.at_most
        return f"{bound or 'about ' * self.at_least}{self.lines} line{'s' * (self.lines != 1)} per {self.per}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text} | {self.estimate} ({self.basis})"


@dataclass(frozen=True)
class Skipped:
    """A file that could not be looked into."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: skipped, {self.reason}"


@dataclass
class Scan:
    """What a tree holds."""

    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    files: int = 0


@dataclass(frozen=True)
class Source:
    """One file as it was read: its bytes are `bom + text.encode(encoding)`."""

    path: Path
    raw: bytes
    text: str
    encoding: str
    bom: bytes
    tree: ast.Module = field(repr=False)
    names: Names = field(repr=False)


def find(path: Path) -> list[Finding]:
    """Every unconditional debug print of a file, or of the Python files below a folder."""
    return scan(path).findings


def scan(path: Path) -> Scan:
    """`find`, with what could not be read.

    Raises
    ------
    ConfigError
        `path` does not exist.
    """
    if not path.exists():
        raise ConfigError(f"{path} is no file and no folder.\nGive one: `kaglaunch debug-prints src/`.")
    with _without_collection():
        return _scan(path)


def _scan(path: Path) -> Scan:
    result = Scan()
    root = path if path.is_dir() else path.parent
    sources: list[Source] = []
    compiled: set[tuple[str, str]] = set()
    for file in python_files(path):
        result.files += 1
        try:
            raw = file.read_bytes()
            # A file without either needs no tree.
            if (prints := _PRINT.search(raw) is not None) or _JIT_CALL.search(raw):
                source = read(file, raw)
                compiled |= source.names.compiled_abroad
                if prints:
                    sources.append(source)
        except (OSError, Unreadable) as error:
            result.skipped.append(Skipped(file, _reason(error)))
    for source in sources:
        try:
            result.findings += findings_of(source, source.path.relative_to(root), frozenset(compiled))
        except RecursionError:
            result.skipped.append(Skipped(source.path, "it is nested too deeply"))
    return result


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Syntax trees have no cycles; looking for some takes as long as everything else here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def findings_of(source: Source, relative: PurePath, compiled_abroad: frozenset[tuple[str, str]]) -> list[Finding]:
    """The findings of one module, by line."""
    found = [
        Finding(
            source.path,
            site.call.lineno,
            site.call.col_offset,
            site.rule,
            _shortened(site.call, source.text),
            site.lines,
            site.per,
            site.at_least,
            site.at_most,
            site.basis,
            site.compiled,
        )
        for site in rules.sites(source.tree, source.names, relative, compiled_abroad)
    ]
    return sorted(found, key=lambda finding: (finding.line, finding.column))


class Unreadable(Exception):
    """Raised when a file is no Python source that this interpreter can read."""


def read(path: Path, raw: bytes) -> Source:
    """Decode as Python does (cookie, byte order mark) and parse, with the newlines kept.

    Raises
    ------
    Unreadable
        It says why.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        bom = b"\xef\xbb\xbf" if encoding == "utf-8-sig" else b""
        encoding = "utf-8" if bom else encoding
        text = raw[len(bom) :].decode(encoding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, str(path))
        names = Names(tree, text)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not {error.encoding}: {error.reason} at byte {error.start}") from error
    except (SyntaxError, LookupError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise Unreadable(f"it is not Python of this version: {message}{line}") from error
    except (RecursionError, MemoryError) as error:
        raise Unreadable("it is nested too deeply") from error
    return Source(path, raw, text, encoding, bom, tree, names)


def python_files(path: Path) -> Iterator[Path]:
    """The file itself, or those below the folder; symbolic links are not followed."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_foreign(Path(folder, name)))
        for name in sorted(names):
            file = Path(folder, name)
            if file.suffix in (".py", ".pyw") and _is_regular(file):
                yield file


def _is_foreign(folder: Path) -> bool:
    name = folder.name
    hidden = name.startswith(".") or name in SKIPPED_FOLDERS or name.endswith(".egg-info")
    return hidden or (folder / "pyvenv.cfg").exists()


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return True  # reading it will say why


def _reason(error: Exception) -> str:
    return f"it cannot be read: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)


def _shortened(call: ast.Call, text: str) -> str:
    shown = " ".join((ast.get_source_segment(text, call) or ast.unparse(call)).split())
    shown = "".join(char if char.isprintable() else "?" for char in shown)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
