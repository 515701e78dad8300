"""An alert reaches somebody who does not look: by a real command, by a real server; a failure stops nothing."""

from __future__ import annotations

import http.server
import json
import logging
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.config import WatchSettings, load, resolve
from launcher.errors import ConfigError
from launcher.runs import notifier as notifying
from launcher.runs.alerts import Alert, Level
from launcher.runs.notifier import Notice, Notifier

HOSTILE = "speed 0.5 $(touch owned) `touch owned`; touch owned & \"quoted\" 'too' \u2028 é"


class _Receiver(http.server.BaseHTTPRequestHandler):
    got: list[tuple[str, Any]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[_Receiver]]]:
    handler = type("Receiver", (_Receiver,), {"got": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hooks/TOP-SECRET", handler
    server.shutdown()
    server.server_close()


def _notice(message: str = HOSTILE) -> Notice:
    return Notice("quick-abcdef", 2, Alert(Level.WARN, "slow", message))


def _send(settings: WatchSettings, times: int = 1) -> None:
    notifier = Notifier(settings)
    for _ in range(times):
        notifier.send(_notice())
    notifier.close()


def test_a_command_gets_the_alert_as_data_and_no_shell_reads_it(home: Path) -> None:
    program = home / "noted by.py"
    program.write_text(
        "import json, os, sys\n"
        "found = {k: v for k, v in os.environ.items() if k.startswith('KAGLAUNCH_ALERT_')}\n"
        "json.dump([sys.stdin.buffer.read().decode(), found], open('heard.json', 'w'))\n"
    )
    _send(WatchSettings(notify_command=f"{sys.executable} {shlex.quote(str(program))}"))
    stdin, environ = json.loads((home / "heard.json").read_text())
    assert stdin == f"quick-abcdef session 2: WARN slow: {HOSTILE}\n"
    assert environ == {
        "KAGLAUNCH_ALERT_LEVEL": "WARN",
        "KAGLAUNCH_ALERT_RULE": "slow",
        "KAGLAUNCH_ALERT_MESSAGE": HOSTILE,
        "KAGLAUNCH_ALERT_RUN": "quick-abcdef",
        "KAGLAUNCH_ALERT_SESSION": "2",
        "KAGLAUNCH_ALERT_TEXT": stdin.rstrip("\n"),
    }
    assert not (home / "owned").exists()


def test_a_webhook_gets_the_alert_as_json(receiver: tuple[str, type[_Receiver]]) -> None:
    address, handler = receiver
    _send(WatchSettings(notify_webhook=address))
    ((content_type, value),) = handler.got
    assert content_type == "application/json"
    assert value == {
        "run_id": "quick-abcdef",
        "session": 2,
        "level": "WARN",
        "rule": "slow",
        "message": HOSTILE,
        "text": f"quick-abcdef session 2: WARN slow: {HOSTILE}",
    }


@pytest.mark.parametrize("failure", ["refusing server", "no server", "failing command", "no command"])
def test_a_failure_is_logged_once_and_never_tells_the_address(
    failure: str, receiver: tuple[str, type[_Receiver]], caplog: pytest.LogCaptureFixture
) -> None:
    address, handler = receiver
    handler.status = 500
    settings = {
        "refusing server": WatchSettings(notify_webhook=address),
        "no server": WatchSettings(notify_webhook="http://127.0.0.1:9/hooks/TOP-SECRET"),
        "failing command": WatchSettings(notify_command=f"{sys.executable} -c 'raise SystemExit(3)'"),
        "no command": WatchSettings(notify_command="/no/such/program"),
    }[failure]
    with caplog.at_level(logging.WARNING):
        _send(settings, times=3)
    assert len(caplog.records) == 1
    assert "TOP-SECRET" not in caplog.text
    assert "failed" in caplog.text


def test_a_server_that_never_answers_holds_nothing_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifying, "TIMEOUT_S", 0.2)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        _send(WatchSettings(notify_webhook=f"http://127.0.0.1:{server.server_port}/"))
    assert "no answer" in caplog.text


def test_the_address_is_not_shown_and_may_not_leave(home: Path) -> None:
    effective = resolve({}, environ={"KAGLAUNCH_WATCH_NOTIFY_WEBHOOK": "https://hooks.example/TOP-SECRET"})
    assert effective.settings.watch.notify_webhook.endswith("TOP-SECRET")
    assert "TOP-SECRET" not in "\n".join(effective.lines()) + repr(effective.settings.watch)
    assert effective.settings.secrets == ("https://hooks.example/TOP-SECRET",)


@pytest.mark.parametrize(
    ("key", "value"),
    [("silence_s", "-1"), ("min_timesteps_per_s", "nan"), ("notify_webhook", "ftp://x"), ("notify_command", "echo '")],
)
def test_impossible_watch_settings_are_refused_by_name(home: Path, key: str, value: str) -> None:
    variable = f"KAGLAUNCH_WATCH_{key.upper()}"
    with pytest.raises(ConfigError, match=variable):
        load({}, environ={variable: value})
