"""The embedded Kaggle as the command line sees it: find it, start it, stop it, ask it.

Standard library only: nothing of the server is imported here.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORT_IN_USE = 3
_USERNAME = "local"


class ServiceError(Exception):
    """Raised when the embedded Kaggle cannot be started or asked; says what to type next."""


@dataclass(frozen=True)
class Endpoint:
    """Where it listens, and the token that is the user there."""

    url: str
    token: str = field(repr=False)
    username: str
    pid: int


class LocalKaggle:
    """The embedded Kaggle whose state lies in `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._token, self._address = state_dir / "token", state_dir / "address.json"

    def find(self) -> Endpoint | None:
        """Where it runs and answers with our token; None when it does not."""
        try:
            address = json.loads(self._address.read_text(encoding="utf-8"))
            token = self._token.read_text(encoding="utf-8").strip()
            endpoint = Endpoint(f"http://127.0.0.1:{int(address['port'])}", token, _USERNAME, int(address["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        try:
            answer = _post(endpoint, "/api/v1/api.v1.DiagnosticsService/Hello", {}, timeout_s=2.0)
        except (ServiceError, OSError, ValueError):
            return None
        return endpoint if answer.get("userName") == _USERNAME else None

    def ensure_running(self, port: int | None = None, timeout_s: float = 20.0) -> Endpoint:
        """Find it or start it; of two callers at once one starts it.

        Raises
        ------
        ServiceError
            The port is taken, or it did not come up.
        """
        if (endpoint := self._at(port)) is not None:
            return endpoint
        with self._locked():
            if (endpoint := self._at(port)) is not None:
                return endpoint
            return self._start(port, timeout_s)

    def stop(self) -> bool:
        """Stop it, running sessions killed with a truthful state; False when it did not run."""
        endpoint = self.find()
        if endpoint is None:
            return False
        with contextlib.suppress(ServiceError):
            self._ask("stop", {}, endpoint)
        for wait_s in (0.05,) * 100:
            if not _lives(endpoint.pid):
                return True
            time.sleep(wait_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(endpoint.pid, signal.SIGKILL)
        return True

    def status(self) -> dict[str, Any]:
        """Sessions, datasets, quota, clock, faults, address, state folder."""
        return self._ask("status", {})

    def set_fault(self, name: str, value: Any) -> None:
        """Set one fault of docs/embedded-kaggle.md. Raises ServiceError for an unknown one."""
        self._ask("fault", {"name": name, "value": value})

    def clear_faults(self) -> None:
        """Unset all faults."""
        self._ask("clear-faults", {})

    def faults(self) -> dict[str, Any]:
        """Faults that are set."""
        return dict(self._ask("faults", {})["set"])

    def change_settings(self, **values: Any) -> dict[str, Any]:
        """Set delays and limits; all of them as they are now."""
        return self._ask("settings", values)

    def advance_clock(self, seconds: float) -> None:
        """Put its clock forward."""
        self._ask("clock", {"advance_s": seconds})

    def _ask(self, verb: str, body: dict[str, Any], endpoint: Endpoint | None = None) -> dict[str, Any]:
        endpoint = endpoint or self.find()
        if endpoint is None:
            raise ServiceError("The embedded Kaggle does not run. Start it with `kaglaunch local start`.")
        return _post(endpoint, f"/local/{verb}", body, timeout_s=30.0)

    def _at(self, port: int | None) -> Endpoint | None:
        """The running one. Raises ServiceError when it listens elsewhere than at `port`."""
        endpoint = self.find()
        if endpoint is not None and port is not None and not endpoint.url.endswith(f":{port}"):
            raise ServiceError(
                f"The embedded Kaggle was asked for at port {port} and runs at {endpoint.url}.\n"
                "Stop it first with `kaglaunch local stop`."
            )
        return endpoint

    def _start(self, port: int | None, timeout_s: float) -> Endpoint:
        if not self._token.exists():
            _write_private(self._token, secrets.token_urlsafe(32))
        command = [sys.executable, "-m", "launcher.local_kaggle.server", "--state-dir", str(self.state_dir)]
        command += ["--port", str(port)] if port is not None else []
        complaints = self.state_dir / "start.log"
        with complaints.open("w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.state_dir,
                env=_environment(),
                start_new_session=True,
            )
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if process.poll() == PORT_IN_USE:
                raise ServiceError(
                    f"The embedded Kaggle was to listen at port {port}, and another program does.\n"
                    "Choose another with `kaglaunch local start --port N`, or leave --port out for any free one."
                )
            if process.poll() is not None:
                said = complaints.read_text(encoding="utf-8").strip().splitlines()
                raise ServiceError(
                    f"The embedded Kaggle ended at its start: {said[-1] if said else 'no message'}\n"
                    f"Its log is {self.state_dir / 'server.log'}."
                )
            if (endpoint := self.find()) is not None and endpoint.pid == process.pid:
                return endpoint
            time.sleep(0.05)
        process.kill()
        raise ServiceError(
            f"The embedded Kaggle did not answer within {timeout_s:.0f} s.\nIts log is {self.state_dir / 'server.log'}."
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServiceError(
                f"The embedded Kaggle keeps its state in {self.state_dir}, which cannot be written: {error}.\n"
                "Set XDG_STATE_HOME to a folder that can."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _environment() -> dict[str, str]:
    """Ours without the user's Kaggle credentials: the server needs none, and its sessions must not see any."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}


def _post(endpoint: Endpoint, path: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    request = urllib.request.Request(
        endpoint.url + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {endpoint.token}", "Content-Type": "application/json"},
        method="POST",
    )
    # No proxy of this machine stands between it and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError):
            text = json.loads(text)["message"]
        raise ServiceError(text) from error
    except urllib.error.URLError as error:
        raise ServiceError(f"The embedded Kaggle at {endpoint.url} does not answer: {error.reason}.") from error


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _write_private(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.aside")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
