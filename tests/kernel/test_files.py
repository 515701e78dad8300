"""A file that is written aside is the old one or the new one at every instant, and nothing else writes files anew."""

from __future__ import annotations

import ast
import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kernel.checkpoints import digests
from kernel.contract import files

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = b"old" * 1000, b"new" * 500_000
OWN_WAYS = {
    "kernel/contract/files.py": "the owner",
    "kernel/checkpoints/checkpoint.py": "never replaces, and has no name until it is whole; `refuse` only renames",
    "launcher/local_kaggle/files.py": "a folder",
    "launcher/local_kaggle/datasets.py": "a folder",
    "launcher/local_kaggle/sessions.py": "a folder",
}
"""Modules that give a file or folder its final name themselves, and why."""


def killed_at(step: int, write: Callable[[], None]) -> bool:
    """Whether `write`, in a process of its own, came to its `step`-th line of files.py, where it was killed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal seen
            if frame.f_code.co_filename != files.__file__:
                return None
            seen += event == "line"
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        write()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def put_in_place(path: Path) -> None:
    whole = path.with_name("whole")
    whole.write_bytes(NEW)
    files.put_in_place(whole, path)


def write_in_parts(path: Path) -> None:
    with files.aside(path) as file:
        for start in range(0, len(NEW), 100_000):
            file.write(NEW[start : start + 100_000])
            file.flush()


@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("write", [lambda path: files.write_aside(path, NEW), put_in_place, write_in_parts])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_content(
    write: Callable[[Path], None], there_before: bool, tmp_path: Path
) -> None:
    path, found, step = tmp_path / "file.json", [], 0
    was = OLD if there_before else None
    while True:
        step += 1
        path.unlink(missing_ok=True)
        if there_before:
            path.write_bytes(OLD)
        killed = killed_at(step, lambda: write(path))
        found.append(path.read_bytes() if path.exists() else None)
        assert found[-1] in (was, NEW), f"step {step}: {len(found[-1] or b'')} bytes"
        if not killed:
            break
    assert step > 5
    assert found[0] == was
    assert found[-1] == NEW
    # What the kills left is no hindrance to the next writer.
    write(path)
    assert path.read_bytes() == NEW


def test_content_and_then_the_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder" if is_folder else f"{os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        steps.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    files.write_aside(tmp_path / "deep" / "a", b"12345")
    files.put_in_place(tmp_path / "deep" / "a", tmp_path / "deep" / "b")
    assert steps == ["5 bytes", "name", "folder"] * 2


def test_a_writer_that_fails_leaves_the_file_and_its_folder_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def fails() -> None:
        with files.aside(path) as file:
            file.write(NEW)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        fails()
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_at_one_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.aside(path) as first:
        first.write(b"first" * 100)
        with files.aside(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127, "\N{GRINNING FACE}" * 63):
        files.write_aside(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


def test_a_private_file_is_private_from_its_first_byte(tmp_path: Path) -> None:
    with files.aside(tmp_path / "token", mode=0o600) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def renames(source: str) -> list[int]:
    """Lines that give a file its final name: `os.replace`, `os.rename`, `os.link`-like, `Path.rename`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            of_a_path = len(node.args) == 1 and not node.keywords  # str.replace takes two
            if (on_os and node.func.attr in ("replace", "rename", "renames")) or (
                not on_os and node.func.attr in ("rename", "replace") and of_a_path
            ):
                found.append(node.lineno)
    return found


def test_no_other_module_writes_aside_by_hand() -> None:
    assert renames("os.replace(a, b)\npath.rename(x)\npart.replace(path)\ntext.replace('a', 'b')\n") == [1, 2, 3]
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("launcher", "kernel", "arz_model")
        for path in (ROOT / package).rglob("*.py")
        if renames(path.read_text("utf-8"))
    }
    assert found == set(OWN_WAYS)


def test_lines_are_added_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / digests.DIGESTS
    path.write_bytes(b'{"num_timesteps": 1, "state_digest": "a"}\n{"num_times')  # a writer was killed
    digests.append_digest(tmp_path, 2, "b")
    assert digests.read_digests(tmp_path) == {1: "a", 2: "b"}
    whole = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        digests.append_digest(tmp_path, 3, "c")
    assert path.read_bytes() == whole
