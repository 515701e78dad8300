"""The embedded Kaggle as a command line sees it: find it, start it in the background, ask it, stop it.

Standard library only, and light to import: the server is a process of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import IO, Any

from kernel.contract.files import write_aside
from kernel.contract.record import Record
from launcher.reasons import reason

USERNAME = "local"
CALL_TIMEOUT_S = 60.0
PING_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02

EXIT_PORT_IN_USE = 3
EXIT_ALREADY_RUNNING = 4
"""Exit statuses of the server process."""


class ServiceError(Exception):
    """The embedded Kaggle cannot do what was asked; the message says what was found and what to type next."""


class Endpoint(Record):
    """A server that is running and has proved that it is ours."""

    url: str
    token: str = field(repr=False)
    username: str
    pid: int


class LocalKaggle:
    """The installation whose state lies in `state_dir` (made when it is first started)."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = Path(state_dir).resolve()

    def find(self) -> Endpoint | None:
        """The running server, if there is one and it proves that it holds our token."""
        try:
            port = int(json.loads((self.state_dir / "server.json").read_text("utf-8"))["port"])
            token = (self.state_dir / "token").read_text("utf-8").strip()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        url = f"http://127.0.0.1:{port}"
        pid = _proved_pid(url, token)
        return None if pid is None else Endpoint(url, token, USERNAME, pid)

    def ensure_running(self, port: int | None = None, timeout_s: float = 20) -> Endpoint:
        """The running server; started in the background if there is none.

        Of two callers at once one starts it and both get it. `port`: None takes the last one used, or any free one.
        Raises ServiceError: port taken, another port asked for than it runs on, or no start within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        running = self.find()
        if running is None:
            with self._start_lock(deadline):
                running = self.find() or self._start(port, deadline)
        if port is not None and running.url != f"http://127.0.0.1:{port}":
            raise ServiceError(
                f"The embedded Kaggle was asked for on port {port}, but it runs on {running.url} already.\n"
                f"Use it there, or stop it first with `kaglaunch local stop`."
            )
        return running

    def stop(self) -> bool:
        """Stop the server and SIGKILL the sessions that run; False if nothing was running.

        Sessions that outlived a server which died are killed and recorded too.
        """
        running = self.find()
        if running is None:
            if not self.has_survivors():
                return False
            running = self.ensure_running()
        self._call(running, "stop")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._serves(running.pid):
            if time.monotonic() > deadline:
                os.kill(running.pid, signal.SIGKILL)
                deadline = time.monotonic() + STOP_TIMEOUT_S
            time.sleep(POLL_S)
        return True

    def has_survivors(self) -> bool:
        """Whether sessions run on although no server does."""
        for started in self.state_dir.glob("sessions/*/started.json"):
            if not (started.parent / "exit.json").exists():
                with contextlib.suppress(ValueError, KeyError, OSError):
                    if _is_alive(int(json.loads(started.read_text("utf-8"))["runner_pid"])):
                        return True
        return False

    def status(self) -> dict[str, Any]:
        """Sessions, quota, datasets, clock, faults, settings, url, pid; `running` False and `state_dir` if stopped."""
        running = self.find()
        if running is None:
            return {"running": False, "state_dir": str(self.state_dir)}
        return self._call(running, "status")

    def set_fault(self, name: str, value: Any) -> None:
        """Order a fault (see docs/embedded-kaggle.md). Raises ServiceError that lists the names or fields there are."""
        self._call(self._running(), "fault", {"name": name, "value": value})

    def clear_faults(self, name: str | None = None) -> None:
        """Take back one fault, or all."""
        self._call(self._running(), "clear-faults", {"name": name})

    def faults(self) -> dict[str, Any]:
        """name -> the rules that are set, with how often each has worked (`taken`) and will work (`times`)."""
        return self._call(self._running(), "faults")

    def advance_clock(self, seconds: float) -> None:
        """Move the server's clock forward; on return, what became due by that has happened."""
        self._call(self._running(), "clock", {"seconds": seconds})

    def change_settings(self, **values: Any) -> dict[str, Any]:
        """Change delays and limits by name, or all delays with preset="realistic"; the settings that result."""
        return self._call(self._running(), "settings", values)

    def client_env(self, home: Path) -> dict[str, str]:
        """Variables with which an unmodified `kaggle` or `kagglehub` talks to this server and to nothing else.

        `home` replaces the home folder, so that no credentials of the user are found there. Nothing is taken from
        the present environment except what runs the interpreter; the clients' own variables must not be added.
        """
        running = self._running()
        folder = self.state_dir / "client-site"
        folder.mkdir(exist_ok=True)
        patch = (Path(__file__).parent / "endpoint_patch.py").read_bytes()
        if not (folder / "sitecustomize.py").exists() or (folder / "sitecustomize.py").read_bytes() != patch:
            write_aside(folder / "sitecustomize.py", patch, mode=0o600)
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(home),
            "TMPDIR": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(folder),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": running.token,
            "KAGLAUNCH_LOCAL_KAGGLE": running.url,
        }

    def _running(self) -> Endpoint:
        running = self.find()
        if running is None:
            raise ServiceError(
                f"No embedded Kaggle is running (state folder {self.state_dir}).\n"
                "Start it with `kaglaunch local start`."
            )
        return running

    def _serves(self, pid: int) -> bool:
        """Whether the server `pid` is there. One that has ended stays a process until whoever started it reaps it."""
        import fcntl

        if not _is_alive(pid):
            return False
        with (self.state_dir / "server.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _call(self, endpoint: Endpoint, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        http_request = urllib.request.Request(
            f"{endpoint.url}/local/{method}",
            data=json.dumps(request or {}).encode(),
            headers={"Authorization": f"Bearer {endpoint.token}", "Content-Type": "application/json"},
            method="POST",
        )
        try:
            with _direct.open(http_request, timeout=CALL_TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                message = json.load(error).get("message", "")
            raise ServiceError(message or f"The embedded Kaggle answered `{method}` with {error.code}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                f"The embedded Kaggle at {endpoint.url} did not answer `{method}`: {error}\n"
                f"Its log is {self.state_dir / 'server.log'}; `kaglaunch local start` starts it again."
            ) from error

    @contextlib.contextmanager
    def _start_lock(self, deadline: float) -> Iterator[None]:
        """Hold the right to start the server. Raises ServiceError if another process holds it past `deadline`."""
        try:
            import fcntl
        except ImportError:
            raise ServiceError(
                "The embedded Kaggle runs on Linux and macOS only.\n"
                "Here, use the real service: `--target kaggle`, with credentials (see docs/cli.md)."
            ) from None
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ServiceError(
                f"The embedded Kaggle keeps its state in {self.state_dir}, which cannot be made: {reason(error)}.\n"
                "Set XDG_STATE_HOME to a folder that can."
            ) from error
        with (self.state_dir / "start.lock").open("ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ServiceError(
                            f"Another process has been starting the embedded Kaggle in {self.state_dir} for too long.\n"
                            "Look for it with `kaglaunch local status`, then try again."
                        ) from None
                    time.sleep(POLL_S)
            yield

    def _make_token(self) -> None:
        path = self.state_dir / "token"
        if not path.exists():
            write_aside(path, f"KGAT_{secrets.token_hex(24)}".encode(), mode=0o600)

    def _start(self, port: int | None, deadline: float) -> Endpoint:
        self._make_token()
        command = [sys.executable, "-m", f"{__package__}.server", "--state-dir", str(self.state_dir)]
        with (self.state_dir / "server.err").open("wb") as stderr:
            os.fchmod(stderr.fileno(), 0o600)
            server = _spawn(command + (["--port", str(port)] if port else []), stderr)
        while time.monotonic() < deadline:
            running = self.find()
            if running is not None:
                return running
            status = server.poll()
            if status not in (None, EXIT_ALREADY_RUNNING):
                raise ServiceError(self._why_not(status, port))
            time.sleep(POLL_S)
        if server.poll() is not None:
            raise ServiceError(self._why_not(server.returncode, port))
        server.kill()
        raise ServiceError(f"The embedded Kaggle did not answer in time; its log is {self.state_dir / 'server.log'}.")

    def _why_not(self, status: int, port: int | None) -> str:
        if status == EXIT_PORT_IN_USE:
            return (
                f"The embedded Kaggle was asked for on port {port or '(any)'}, but another program listens there.\n"
                "Choose another with `kaglaunch local start --port N`, or leave --port out for any free one."
            )
        if status == EXIT_ALREADY_RUNNING:
            return (
                f"Another embedded Kaggle{self._written_down()} holds the state folder {self.state_dir} but does not "
                f"answer.\nIts log is {self.state_dir / 'server.log'}; end that process, then `kaglaunch local start`."
            )
        tail = (self.state_dir / "server.err").read_text("utf-8", errors="replace").strip()[-2000:]
        return f"The embedded Kaggle ended with status {status} while starting.\n{tail}"

    def _written_down(self) -> str:
        """The process that wrote down where it serves, in words; empty without any."""
        try:
            pid = int(json.loads((self.state_dir / "server.json").read_text("utf-8"))["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f" (process {pid})" if _is_alive(pid) else ""


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""No proxy stands between us and 127.0.0.1, whatever the environment says."""


def _proved_pid(url: str, token: str) -> int | None:
    """The process that listens at `url`, if it proves that it holds the token; the token itself is not shown to it."""
    nonce = secrets.token_hex(16)
    try:
        with _direct.open(f"{url}/local/ping?nonce={nonce}", timeout=PING_TIMEOUT_S) as response:
            answer = json.load(response)
            pid, given = int(answer["pid"]), str(answer["proof"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None
    wanted = hmac.new(token.encode(), f"ping {nonce} {pid}".encode(), hashlib.sha256).hexdigest()
    return pid if hmac.compare_digest(given.encode(), wanted.encode()) else None


def _spawn(command: list[str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the server detached from us, without the user's Kaggle credentials in its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KAGGLE")}
    ours = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ours, environment.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one of our own that has ended is reaped here."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
