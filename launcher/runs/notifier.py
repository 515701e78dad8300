"""Tell somebody who does not look at the screen: a command or a webhook for each alert, beside the watch.

A command is started without a shell, and the alert reaches it as data alone (standard input, environment). The
webhook's address is a secret: no message holds it. A failure is logged once and never stops a watch.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import queue
import shlex
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

from launcher.config import WatchSettings
from launcher.runs.alerts import Alert

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""The longest that one notification may take."""
LAST_WAIT_S = 15.0
"""How long the end of a watch waits for notifications that are under way."""


@dataclass(frozen=True)
class Notice:
    """One alert and the session that it is about."""

    run_id: str
    session: int
    alert: Alert

    def plain(self) -> dict[str, str | int]:
        """What a webhook gets."""
        return {
            "run_id": self.run_id,
            "session": self.session,
            "level": self.alert.level.value,
            "rule": self.alert.rule,
            "message": self.alert.message,
            "text": f"{self.run_id} session {self.session}: {self.alert}",
        }


class Notifier:
    """Sends notices one after the other in a thread of its own; without any destination it does nothing."""

    def __init__(self, settings: WatchSettings) -> None:
        self._command = shlex.split(settings.notify_command)
        self._webhook = settings.notify_webhook
        self._notices: queue.Queue[Notice | None] = queue.Queue()
        self._failed: set[str] = set()
        self._thread: threading.Thread | None = None

    def send(self, notice: Notice) -> None:
        """Begin to send; returns at once."""
        if not self._command and not self._webhook:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
            self._thread.start()
        self._notices.put(notice)

    def close(self) -> None:
        """Wait for what is under way, for LAST_WAIT_S at the most."""
        if self._thread is not None:
            self._notices.put(None)
            self._thread.join(LAST_WAIT_S)
            self._thread = None

    def _run(self) -> None:
        while (notice := self._notices.get()) is not None:
            values = notice.plain()
            if self._command:
                self._report("notify_command", _run_command(self._command, values))
            if self._webhook:
                self._report("notify_webhook", _post(self._webhook, values))

    def _report(self, what: str, failure: str) -> None:
        if failure and what not in self._failed:
            self._failed.add(what)
            logger.warning("[watch] %s failed: %s. Alerts go on here; this is not said again.", what, failure)


def _run_command(command: list[str], values: dict[str, str | int]) -> str:
    """Why it failed, in words; empty when it did not."""
    # A NUL cannot be in an environment.
    environ = {f"KAGLAUNCH_ALERT_{key.upper()}": str(value).replace("\0", "") for key, value in values.items()}
    environ["KAGLAUNCH_ALERT_RUN"] = environ.pop("KAGLAUNCH_ALERT_RUN_ID")
    try:
        done = subprocess.run(
            command,
            input=f"{values['text']}\n".encode(),
            env=os.environ | environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} was ended after {TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"{command[0]} cannot be started ({error.strerror})"
    return f"{command[0]} ended with exit code {done.returncode}" if done.returncode else ""


def _post(address: str, values: dict[str, str | int]) -> str:
    """Why it failed, in words that do not hold the address; empty when it did not."""
    try:
        request = urllib.request.Request(
            address, json.dumps(values).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"the server answered {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
