"""The command line on a machine that is not POSIX, as far as Linux can play one: `python without_posix.py URL`.

URL is what stands in for kaggle.com. Reads a JSON list of arguments a line, types each as a command of this one process
and answers with a JSON object a line: exit code, output. What Windows lacks is taken away (`lose_posix`), and what it
forbids is forbidden (`forbid`); what it does beyond that is not played.
"""

from __future__ import annotations

import asyncio  # noqa: F401  like the next three it chooses its parts by the name of the system: before they go
import getpass  # noqa: F401
import io
import json
import multiprocessing  # noqa: F401
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import platformdirs  # noqa: F401
import psutil  # noqa: F401

MODULES = ("fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog")
OF_OS = (
    *("killpg", "setsid", "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getpgid", "setpgid", "getpgrp"),
    *("O_DIRECTORY", "O_TMPFILE", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "WNOHANG", "fchmod", "chown", "lchown"),
    *("fchown", "uname", "mkfifo", "sched_getaffinity", "getloadavg", "nice", "sync", "posix_fadvise"),
)
OF_SIGNAL = (
    *("SIGKILL", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGQUIT", "SIGPIPE", "SIGSTOP", "SIGCONT"),
    *("alarm", "setitimer", "pthread_kill", "sigwait", "pthread_sigmask"),
)
NEVER_IN_A_NAME = set('<>:"|?*')
RESERVED = {"con", "prn", "aux", "nul"}


def lose_posix() -> None:
    """Take away what only POSIX has."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.supports_dir_fd.clear()
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[misc]
    platform.system = lambda: "Windows"  # type: ignore[assignment]
    subprocess.Popen.kill = lambda self: self.send_signal(9)  # type: ignore[method-assign]
    begin: Callable[..., None] = subprocess.Popen.__init__

    def popen(self: Any, *arguments: Any, **options: Any) -> None:
        for name in ("pass_fds", "preexec_fn", "process_group", "user", "group"):
            if options.get(name):
                raise ValueError(f"{name} is not supported on Windows platforms")
        begin(self, *arguments, **options)

    subprocess.Popen.__init__ = popen  # type: ignore[method-assign]


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """What Windows refuses of files: folders that are opened, names of files that are open, names that cannot be."""
    if event == "open" and isinstance(arguments[0], str):
        path, mode, flags = arguments
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        if (mode and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & (os.O_CREAT | os.O_WRONLY)):
            _possible(path)
    elif event == "os.mkdir":
        _possible(os.fspath(arguments[0]))
    elif event in ("os.rename", "os.remove"):
        paths = [os.path.realpath(path) for path in arguments[:2] if isinstance(path, str | os.PathLike)]
        opened = {os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd")}
        for path in paths:
            if path in opened:
                raise PermissionError(13, "The process cannot access the file: it is being used", path)
        _possible(paths[-1])


def _possible(path: str) -> None:
    for part in path.split("/"):
        if set(part) & NEVER_IN_A_NAME or part.split(".")[0].lower() in RESERVED or part.rstrip(". ") != part != "..":
            raise OSError(22, "Invalid name for a file on Windows", path)


def type_command(arguments: list[str], main: Callable[[list[str]], int]) -> dict[str, Any]:
    """One command; its streams have the encoding of a console of western Europe."""
    kept = sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True) for _ in kept]
    sys.stdout, sys.stderr = streams
    try:
        code = main(arguments)
    finally:
        sys.stdout, sys.stderr = kept
    said, told = (stream.buffer.getvalue().decode("cp1252") for stream in streams)  # type: ignore[attr-defined]
    return {"code": code, "said": said, "told": told}


def main() -> None:
    """Answer commands until there are no more; what their processes print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lose_posix()
    sys.addaudithook(forbid)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"(launcher|kernel)\b")
    import importlib
    import pkgutil

    import launcher
    from launcher.checks import machine
    from launcher.cli import main as command_line
    from launcher.targets import target

    target.KAGGLE_URL = machine.KAGGLE_URL = sys.argv[1]
    # Not sys.stdin: the import of `kaggle` closes that where it finds no credentials that it likes.
    for line in os.fdopen(os.dup(0), encoding="utf-8"):
        arguments = json.loads(line)
        if arguments == ["import everything"]:
            # The server of the embedded Kaggle is the one part that is for POSIX alone; `service` is its client.
            names = [
                module.name
                for module in pkgutil.walk_packages(launcher.__path__, "launcher.")
                if not module.name.startswith("launcher.local_kaggle.") and not module.name.endswith("__main__")
            ]
            for name in [*names, "launcher.local_kaggle.service"]:
                importlib.import_module(name)
            answer: dict[str, Any] = {"code": 0, "said": f"{len(names)} modules", "told": ""}
        else:
            answer = type_command(arguments, command_line)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
