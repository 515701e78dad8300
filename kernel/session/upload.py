"""The only module that talks to the datasets service; it runs in a process of its own that can be killed.

    python -m kernel.session.upload    requests in, one JSON a line; answers out, one line each

The client has no timeout on any call, so the caller sets one and ends the process. kagglehub is imported here only, and
lazily.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from kernel import signals
from kernel.contract.names import INDEX, told_by_version
from kernel.session.listing import Remote

ANSWER = "@answer "
REFUSALS = (403, 404)


class UploadFailed(ValueError):
    """Raised when a request did not succeed: the HTTP status if there was one, and what Retry-After asked for."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Uploader(Protocol):
    """How a publisher reaches the service."""

    def upload(self, folder: Path, handle: str, notes: str, timeout: float) -> None:
        """Make the files of `folder` the next version of dataset `handle`."""

    def newest(self, handle: str, timeout: float) -> Remote:
        """Look up what the dataset lists.

        Raises
        ------
        UploadFailed
            No answer, or one that does not tell; that there is no such dataset is an answer.
        """

    def files(self, handle: str, version: int, timeout: float) -> dict[str, int]:
        """Files of one version, by their names, and their bytes."""

    def download(self, handle: str, version: int, name: str, to: Path, timeout: float) -> None:
        """Bring the file `name` of a version to `to`, where nothing is."""


class SubprocessUploader:
    """A worker process answers requests one by one; when it is too late it is killed, and the next one gets another."""

    def __init__(self, start: Callable[..., subprocess.Popen[str]] = subprocess.Popen) -> None:
        self._start = start
        self._worker: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def upload(self, folder: Path, handle: str, notes: str, timeout: float) -> None:
        self._ask({"do": "upload", "folder": str(folder), "handle": handle, "notes": notes}, timeout)

    def newest(self, handle: str, timeout: float) -> Remote:
        answer = self._ask({"do": "newest", "handle": handle}, timeout)
        return Remote(**{**answer, "notes": {int(number): note for number, note in answer["notes"].items()}})

    def files(self, handle: str, version: int, timeout: float) -> dict[str, int]:
        return dict(self._ask({"do": "files", "handle": handle, "version": version}, timeout)["files"])

    def download(self, handle: str, version: int, name: str, to: Path, timeout: float) -> None:
        self._ask({"do": "download", "handle": handle, "version": version, "name": name, "to": str(to)}, timeout)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            self._worker = None

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        worker = self._started()
        assert worker.stdin is not None
        said: deque[str] = deque(maxlen=3)
        try:
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            until = time.monotonic() + timeout
            while (line := self._lines.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                if line.startswith(ANSWER):
                    return _checked(json.loads(line[len(ANSWER) :]))
                if line.strip():
                    said.append(line.strip())
        except queue.Empty:
            self.close()
            raise UploadFailed(f"no answer within {timeout:.0f} s") from None
        except OSError as error:
            said.append(str(error))
        self.close()
        raise UploadFailed(f"the upload process ended and said: {' / '.join(said)[:300] or 'nothing'}")

    def _started(self) -> subprocess.Popen[str]:
        if self._worker is not None and self._worker.poll() is None:
            return self._worker
        # DISABLE_KAGGLE_CACHE: in a notebook kagglehub would otherwise wait for a mount instead of asking the service.
        environment = {**os.environ, "DISABLE_KAGGLE_CACHE": "1", "TQDM_DISABLE": "1"}
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
        self._worker = self._start(
            [sys.executable, "-m", "kernel.session.upload"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._lines = queue.Queue()
        threading.Thread(target=_pump, args=(self._worker, self._lines), daemon=True).start()
        return self._worker


def _pump(worker: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        lines.put(line)
    lines.put(None)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise UploadFailed(answer["error"], answer.get("status"), answer.get("retry_after"))
    return answer


def _upload(folder: str, handle: str, notes: str) -> dict[str, Any]:
    import kagglehub

    kagglehub.dataset_upload(handle, folder, version_notes=notes)
    return {}


def _newest(handle: str) -> dict[str, Any]:
    from kagglehub.clients import build_kaggle_client
    from requests import HTTPError

    owner, slug = handle.split("/")
    with build_kaggle_client() as client:
        api = client.datasets.dataset_api_client
        try:
            dataset = api.get_dataset(_request(api.get_dataset, owner, slug))
        except HTTPError as error:
            if _failure(error)["status"] not in REFUSALS:
                raise
            # The service answers 403 for what is missing and for what is forbidden; the account's own list tells.
            listed = _is_listed(api, owner, slug)
            if listed:
                raise
            return dataclasses.asdict(Remote(refused=listed is None))
        status = _word(api.get_dataset_status(_request(api.get_dataset_status, owner, slug)).status)
        newest = max(dataset.versions or (), key=lambda v: v.version_number or 0, default=None)
        files = _files(api, owner, slug) if dataset.current_version_number else ()
    remote = Remote(
        exists=True,
        ready=status == "READY",
        version=dataset.current_version_number or None,
        session=_session_in((newest.version_notes or "") if newest else ""),
        sizes={f.name: int(f.total_bytes) for f in files},
        notes={
            v.version_number: v.version_notes or ""
            for v in dataset.versions or ()
            if _word(v.status) in ("READY", "") and v.version_number <= (dataset.current_version_number or 0)
        },
        failed=(newest.version_number if newest else 0) if status == "FAILED" else None,
        identity=int(dataset.id or 0),
    )
    if remote.session is None and INDEX in remote.sizes:
        remote = dataclasses.replace(remote, session=_session_in_index(handle))
    return dataclasses.asdict(remote)


def _word(status: Any) -> str:
    """The service's word for a state, from an enum or a text."""
    return str(getattr(status, "name", status) or "").upper()


def _files_of(handle: str, version: int) -> dict[str, Any]:
    from kagglehub.clients import build_kaggle_client

    owner, slug = handle.split("/")
    with build_kaggle_client() as client:
        files = _files(client.datasets.dataset_api_client, owner, slug, version)
    return {"files": {f.name: int(f.total_bytes) for f in files}}


def _download(handle: str, version: int, name: str, to: str) -> dict[str, Any]:
    import kagglehub

    path = kagglehub.dataset_download(f"{handle}/versions/{version}", path=name, force_download=True)
    shutil.move(path, to)  # the client's own folder keeps nothing: its disk may be the same
    return {}


def _files(api: Any, owner: str, slug: str, version: int | None = None) -> list[Any]:
    request = _request(api.list_dataset_files, owner, slug)
    request.page_size = 200
    if version is not None:
        request.dataset_version_number = version
    files: list[Any] = []
    while True:
        answer = api.list_dataset_files(request)
        files += answer.dataset_files or ()
        if not answer.next_page_token:
            return files
        request.page_token = answer.next_page_token


def _is_listed(api: Any, owner: str, slug: str) -> bool | None:
    """Whether the account has the dataset, by its list of them; None where that is refused too."""
    from requests import HTTPError

    request = _kind(api.list_datasets)()
    request.group, request.page_size = type(request.group).DATASET_SELECTION_GROUP_MY, 100
    while True:
        try:
            answer = api.list_datasets(request)
        except HTTPError as error:
            if _failure(error)["status"] not in REFUSALS:
                raise
            return None
        if any(str(one.ref).lower().endswith(f"{owner}/{slug}".lower()) for one in answer.datasets or ()):
            return True
        if not answer.next_page_token:
            return False
        request.page_token = answer.next_page_token


def _session_in(notes: str) -> int | None:
    told = told_by_version(notes)
    return told[1] if told else None


def _session_in_index(handle: str) -> int | None:
    import kagglehub

    path = kagglehub.dataset_download(handle, path=INDEX, force_download=True)
    return int(json.loads(Path(path).read_text("utf-8"))["session"])


def _request(method: Any, owner: str, slug: str) -> Any:
    """The request object of a client method, for one dataset."""
    request = _kind(method)()
    request.owner_slug, request.dataset_slug = owner, slug
    return request


def _kind(method: Any) -> Any:
    """What a client method takes, found by its annotation: the SDK itself is not ours to import."""
    annotation = method.__annotations__["request"]
    return annotation if isinstance(annotation, type) else method.__globals__[annotation]


def _said(error: Exception) -> str:
    """`error` in words; of a connection that failed where to and why, without the client's insides."""
    request = getattr(error, "request", None)
    if request is None or getattr(error, "response", None) is not None:
        return f"{type(error).__name__}: {error}"
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
    return f"no answer from {urlsplit(request.url).hostname} ({found[1] if found else type(error).__name__})"


def _failure(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    header = (getattr(response, "headers", None) or {}).get("Retry-After", "")
    return {
        "error": _said(error)[:500],
        "status": int(status) if status is not None else None,
        "retry_after": float(header) if header.isdigit() else None,
    }


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Do what `request` asks; a failure is an answer too."""
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "upload": _upload,
        "newest": _newest,
        "files": _files_of,
        "download": _download,
    }
    do = actions[request.pop("do")]
    try:
        return do(**request)
    except Exception as error:  # noqa: BLE001  whatever a client raises, the asking process must hear of it
        return _failure(error)


def main() -> int:
    """Answer requests, one a line, until standard input ends."""
    signals.die_with_parent()
    for line in sys.stdin:
        answer = answer_to(json.loads(line))
        sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
