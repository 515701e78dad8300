"""The backend against a server that notes what it hears, and against the embedded Kaggle with its faults on."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from launcher.errors import (
    BackendError,
    BackendUnavailable,
    CredentialsError,
    LauncherError,
    NotFound,
    PushRefused,
    QuotaError,
    SubmissionUnknown,
)
from launcher.local_kaggle.service import LocalKaggle
from launcher.targets.answers import retry_after_s, translated
from launcher.targets.base import Kernel, Status
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend
from tests.limits import limit_s

SLEEPER = b"import time\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[LocalKaggle]:
    service = LocalKaggle(tmp_path / "local-kaggle")
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(queue_s=0.0, log_delay_s=0.0)
    yield service
    service.stop()


def _backend(kaggle: LocalKaggle, patience_s: float = 3.0) -> KaggleBackend:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    credentials = Credentials("a test", endpoint.token, endpoint.username)
    return KaggleBackend(endpoint.url, credentials, patience_s=patience_s)


def _kernel(slug: str = "sleepy-kernel-s1", **changes: Any) -> Kernel:
    values: dict[str, Any] = {"slug": slug, "script": SLEEPER, "accelerator": None, "timeout_s": 600}
    return Kernel(**(values | changes))


class _Recorder(http.server.BaseHTTPRequestHandler):
    heard: list[tuple[str, str]]
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.heard.append((self.path, self.headers.get("Authorization", "")))
        self.bodies.append(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        body = json.dumps({"status": "RUNNING", "active": True, "username": "alice"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_only_the_targets_own_token_is_sent_and_only_to_the_target(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_of_the_user")
    monkeypatch.setenv("KAGGLE_USERNAME", "alice")
    monkeypatch.setenv("KAGGLE_KEY", "key-of-the-user")
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "kaggle.json").write_text('{"username": "alice", "key": "key-in-a-file"}')
    asked: list[str] = []
    real = requests.adapters.HTTPAdapter.send
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter,
        "send",
        lambda self, request, *a, **k: (asked.append(request.url), real(self, request, *a, **k))[1],
    )
    handler = type("Recorder", (_Recorder,), {"heard": [], "bodies": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        backend = KaggleBackend(url, Credentials("here", "token-of-the-target"))
        assert backend.username == "alice"
        assert backend.state("some-kernel").status is Status.RUNNING
    finally:
        server.shutdown()
    assert {authorization for _, authorization in handler.heard} == {"Bearer token-of-the-target"}
    assert asked
    assert all(address.startswith(url) for address in asked)
    assert "token-of-the-target" not in caplog.text


@pytest.mark.parametrize("accelerator", ["NvidiaTeslaT4", None])
def test_a_push_says_private_its_own_title_and_its_limit_every_time(accelerator: str | None) -> None:
    handler = type("Recorder", (_Recorder,), {"heard": [], "bodies": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        backend = KaggleBackend(f"http://127.0.0.1:{server.server_port}", Credentials("here", "t"))
        backend.push(
            _kernel("quick-abcdef-s1", accelerator=accelerator, timeout_s=900, dataset_sources=("alice/data",))
        )
    finally:
        server.shutdown()
    (sent,) = [
        body for (path, _), body in zip(handler.heard, handler.bodies, strict=True) if path.endswith("SaveKernel")
    ]
    expected = {
        "slug": "alice/quick-abcdef-s1",
        "newTitle": "quick-abcdef-s1",
        "isPrivate": True,
        "enableInternet": True,
        "enableGpu": accelerator is not None,
        "enableTpu": False,
        "sessionTimeoutSeconds": 900,
        "kernelType": "script",
        "datasetDataSources": ["alice/data"],
    }
    assert {key: sent.get(key) for key in expected} == expected
    assert sent.get("machineShape") == accelerator


def test_building_a_backend_leaves_the_environment_and_the_clients_table_as_they_were(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from kagglesdk import kaggle_env

    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_of_the_user")
    environ, table = dict(os.environ), dict(kaggle_env._env_to_endpoint)
    KaggleBackend("http://127.0.0.1:9", Credentials("here", "t", "local"))
    assert dict(os.environ) == environ
    assert kaggle_env._env_to_endpoint == table


def test_a_wrong_token_is_a_credentials_error(kaggle: LocalKaggle) -> None:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    with pytest.raises(CredentialsError, match="Three ways"):
        KaggleBackend(endpoint.url, Credentials("a test", "wrong"), patience_s=1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500}, BackendUnavailable),
        ({"status": 503, "html": True}, BackendUnavailable),
        ({"status": 429}, BackendUnavailable),
        ({"status": 429, "html": True}, BackendUnavailable),
        ({"status": 401}, CredentialsError),
        ({"status": 403}, NotFound),
        ({"status": 404}, NotFound),
        ({"status": 409}, BackendError),
    ],
)
def test_every_answer_has_its_error(kaggle: LocalKaggle, fault: dict[str, Any], error: type[LauncherError]) -> None:
    backend = _backend(kaggle, patience_s=0.5)
    kaggle.set_fault("http_error", {"method": "GetAcceleratorQuotaStatistics", "times": 50, **fault})
    with pytest.raises(error) as caught:
        backend.quota()
    assert str(fault["status"]) in str(caught.value)


def test_a_passing_failure_is_waited_out_and_retry_after_is_obeyed(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle, patience_s=20)
    kaggle.set_fault(
        "http_error", {"method": "GetAcceleratorQuotaStatistics", "status": 429, "retry_after": 1, "times": 1}
    )
    quota = backend.quota()
    assert quota is not None
    assert quota.allowed_h == 30


def test_signing_in_gives_up_soon_and_leaves_later_questions_their_patience(kaggle: LocalKaggle) -> None:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    known = Credentials("a test", endpoint.token, endpoint.username)
    kaggle.set_fault("http_error", {"method": "ListKernels", "status": 503, "times": 10_000})
    with pytest.raises(BackendUnavailable, match="503"):
        KaggleBackend(endpoint.url, known, patience_s=1e9, sign_in_s=0.1)
    kaggle.clear_faults()
    backend = KaggleBackend(endpoint.url, known, patience_s=1e9, sign_in_s=0.1)
    kaggle.set_fault(
        "http_error", {"method": "GetAcceleratorQuotaStatistics", "status": 429, "retry_after": 1, "times": 1}
    )
    assert backend.quota() is not None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("Mon, 23 Nov 2026 10:00:07 GMT", 7.0),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_s(header, now=datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)) == seconds


def test_a_broken_connection_is_tried_again(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle, patience_s=20)
    kaggle.set_fault("connection_reset", {"method": "GetAcceleratorQuotaStatistics", "times": 2})
    assert backend.quota() is not None


def test_a_push_whose_answer_is_lost_is_found_and_not_pushed_again(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle)
    kaggle.set_fault("answer_lost", {"method": "SaveKernel"})
    backend.push(_kernel())
    sessions = kaggle.status()["sessions"]
    assert [session["kernel"] for session in sessions] == ["local/sleepy-kernel-s1"]


def test_a_push_that_never_arrived_is_unknown_and_not_pushed_again(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle)
    kaggle.set_fault("connection_reset", {"method": "SaveKernel", "times": 1})
    with pytest.raises(SubmissionUnknown, match="not pushed again"):
        backend.push(_kernel())
    assert kaggle.status()["sessions"] == []


def test_a_rate_limited_push_is_repeated_because_nothing_was_done(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle, patience_s=20)
    kaggle.set_fault("http_error", {"method": "SaveKernel", "status": 429, "retry_after": 1, "times": 1})
    backend.push(_kernel())
    assert len(kaggle.status()["sessions"]) == 1


def test_no_free_session_is_refused_in_the_targets_words_and_leaves_no_shell(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle)
    for number in (1, 2):
        backend.push(_kernel(f"sleepy-kernel-s{number}", accelerator="NvidiaTeslaT4"))
    with pytest.raises(QuotaError, match="Maximum batch GPU session count of 2 reached"):
        backend.push(_kernel("sleepy-kernel-s3", accelerator="NvidiaTeslaT4"))
    assert "sleepy-kernel-s3" not in backend.kernels()
    with pytest.raises(NotFound):
        backend.state("sleepy-kernel-s3")


def test_a_dataset_that_cannot_be_attached_ends_the_session(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle)
    with pytest.raises(PushRefused, match="local/no-such-dataset"):
        backend.push(_kernel(dataset_sources=("local/no-such-dataset",)))
    with pytest.raises(NotFound):
        backend.state("sleepy-kernel-s1")


def test_quota_counts_hours_that_running_sessions_reserve(kaggle: LocalKaggle) -> None:
    backend = _backend(kaggle)
    backend.push(_kernel(accelerator="NvidiaTeslaT4", timeout_s=36_000))
    while backend.state("sleepy-kernel-s1").status is not Status.RUNNING:
        pass
    quota = backend.quota()
    assert quota is not None
    assert quota.left_h == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError(),
        requests.ReadTimeout(),
        requests.exceptions.ChunkedEncodingError(),
        requests.exceptions.JSONDecodeError("no", "", 0),
        requests.exceptions.ContentDecodingError(),
        requests.TooManyRedirects(),
        KeyError("TIMED_OUT"),
        TypeError(),
        AttributeError(),
        ValueError(),
        IndexError(),
    ],
)
def test_every_error_of_the_client_istranslated(error: Exception) -> None:
    with pytest.raises(BackendError), translated("http://target"):
        raise error
