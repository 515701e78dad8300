"""Short questions to a target, asked with the standard library alone and answered within a bound, or not at all.

Kaggle's client takes longer to import than to answer. Here only a plain answer counts: no redirect is followed, nothing
is asked again but what a moment may mend. What must be had whatever it takes is asked through the backend.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from kernel.contract.record import Record
from launcher.errors import BackendError, BackendUnavailable, CredentialsError, Forbidden, NotFound, withheld
from launcher.targets import log_lines
from launcher.targets.base import DatasetVersion, LogLine, Quota, SessionState, Status
from launcher.targets.credentials import WAYS, Credentials

AGAIN_S = 0.2
"""Between two tries within the bound."""


class QuickLook(Record):
    """The target at `url`, asked as `credentials`; every answer comes before `deadline` [s of `clock`] or is none.

    Each method raises `BackendUnavailable` without an answer in time, `NotFound` for 403 and 404, `CredentialsError`
    for 401 and `BackendError` for what cannot be read.
    """

    url: str
    credentials: Credentials = field(repr=False)
    deadline: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    on_refusal: Callable[[BackendUnavailable], object] = lambda error: None
    """Hears at once what is answered instead and asked again: a question that runs out of time ends with the last."""

    def state(self, username: str, slug: str) -> SessionState:
        """Where the newest session of the kernel `username`/`slug` stands."""
        asked = {"userName": username, "kernelSlug": slug}
        try:
            answer = self._ask("kernels.KernelsApiService/GetKernelSessionStatus", asked)
        except Forbidden as refusal:
            raise withheld(
                slug, refusal, lambda: self._all("kernels.KernelsApiService/ListKernels", "PROFILE", "kernels")
            ) from refusal
        with self._readable():
            return SessionState(Status(answer["status"]), str(answer.get("failureMessage") or ""))

    def versions(self, dataset: str) -> list[DatasetVersion]:
        """Ready versions of `owner/slug`, newest first; empty when there is no such dataset for certain."""
        owner, _, slug = dataset.partition("/")
        try:
            answer = self._ask("datasets.DatasetApiService/GetDataset", {"ownerSlug": owner, "datasetSlug": slug})
        except Forbidden as refusal:
            unknown = withheld(
                slug, refusal, lambda: self._all("datasets.DatasetApiService/ListDatasets", "MY", "datasets")
            )
            if isinstance(unknown, NotFound):
                return []
            raise unknown from refusal
        except NotFound:
            return []
        with self._readable():
            found = [
                DatasetVersion(
                    int(v["versionNumber"]), _moment(v.get("creationDate")), str(v.get("versionNotes") or "")
                )
                for v in answer.get("versions") or []
                if str(v.get("status") or "").upper() in ("READY", "")
            ]
        return sorted(found, key=lambda version: version.number, reverse=True)

    def dataset_files(self, dataset: str, version: int) -> list[str]:
        """Names of the files of one version, as many as one answer holds."""
        owner, _, slug = dataset.partition("/")
        asked = {"ownerSlug": owner, "datasetSlug": slug, "datasetVersionNumber": version, "pageSize": 200}
        answer = self._ask("datasets.DatasetApiService/ListDatasetFiles", asked)
        with self._readable():
            return [str(file["name"]) for file in answer.get("datasetFiles") or []]

    def kernels(self) -> list[str]:
        """Slugs of this user's kernels, the last used ones first, as many as one answer holds."""
        answer = self._ask("kernels.KernelsApiService/ListKernels", {"group": "PROFILE", "pageSize": 100})
        with self._readable():
            return [str(kernel["ref"]).rpartition("/")[2] for kernel in answer.get("kernels") or []]

    def _all(self, method: str, group: str, key: str) -> list[str]:
        """Slugs of everything that the account has by a list, all of its pages."""
        slugs: list[str] = []
        token = ""
        while True:
            page = {"pageToken": token} if token else {}
            answer = self._ask(method, {"group": group, "pageSize": 100, **page})
            with self._readable():
                slugs += [str(one["ref"]).rpartition("/")[2] for one in answer.get(key) or []]
                token = str(answer.get("nextPageToken") or "")
            if not token:
                return slugs

    def quota(self) -> Quota | None:
        """GPU hours of this week; None where the target does not tell."""
        answer = self._ask("kernels.KernelsApiService/GetAcceleratorQuotaStatistics", {})
        with self._readable():
            gpu = answer.get("gpuQuota") or {}
            if "timeUsed" not in gpu or "totalTimeAllowed" not in gpu:
                return None
            used_h, allowed_h = _hours(gpu["timeUsed"]), _hours(gpu["totalTimeAllowed"])
            reserved_h = _hours(gpu.get("timeReserved") or "0s")
            return Quota(used_h, reserved_h, allowed_h, _moment(answer.get("quotaRefreshTime")))

    def log(self, username: str, slug: str, on_line: Callable[[LogLine], object]) -> bool:
        """Give the log's lines as they come, from the first one on; whether that was all of a session's log.

        While the session runs the call lasts until the deadline.
        """
        address = f"{self._base}/kernels/logs/stream/{quote(username)}/{quote(slug)}"
        with closing(self._open(address, None, {"Accept": "text/event-stream, */*"})) as answer:
            live = answer.headers.get("Content-Type", "").lower().startswith("text/event-stream")
            try:
                if not live:
                    lines = log_lines.whole(answer.read().decode("utf-8", "replace"))
                    for line in lines:
                        on_line(line)
                    return bool(lines)
                for found in log_lines.streamed(answer):
                    if found is None:
                        return True
                    on_line(found)
                    if self.clock() >= self.deadline:
                        break
            except (OSError, http.client.HTTPException):
                # What came is what there is: the connection ended, or the deadline did.
                pass
        return False

    def _ask(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one call, asked again while the bound allows."""
        refused: BackendUnavailable | None = None
        while True:
            try:
                with closing(self._open(f"{self._base}/{method}", json.dumps(body).encode(), _JSON)) as answer:
                    found = json.load(answer)
                    if isinstance(found, dict):
                        return found
                    raise BackendError(f"{self.url} answered what is no object.")
            except BackendUnavailable as error:
                if refused is None or self.clock() < self.deadline:
                    refused = error  # a try that the bound has cut says less than the one before
                    self.on_refusal(error)
                wait_s = AGAIN_S if error.retry_after_s is None else error.retry_after_s
                if self.clock() + wait_s >= self.deadline:
                    raise refused from refused.__cause__
                self.sleep(wait_s)
            except (OSError, http.client.HTTPException) as error:
                raise self._silent(error) from error
            except ValueError as error:
                raise BackendError(f"{self.url} answered what cannot be read ({error}).") from error

    def _open(self, address: str, data: bytes | None, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(
            address, data=data, headers={**headers, "Authorization": _authorization(self.credentials)}
        )
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if self._local:
            handlers.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*handlers)  # loads certificates: that takes of the time that is left
        left_s = max(0.01, self.deadline - self.clock())
        try:
            return opener.open(request, timeout=left_s)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error

    def _refusal(self, error: urllib.error.HTTPError) -> BackendError | CredentialsError:
        if error.code == 401:
            return CredentialsError(f"{self.url} does not accept these credentials (401).\n{WAYS}")
        said = f"{self.url} answered {error.code} ({error.reason})."
        if error.code == 403:
            return Forbidden(said)
        if error.code == 404:
            return NotFound(said)
        if error.code == 429 or error.code >= 500:
            header = error.headers.get("Retry-After", "")
            wait_s = float(header) if header.isdigit() else None
            return BackendUnavailable(f"{said} Try again in a while.", retry_after_s=wait_s)
        return BackendError(said)

    def _silent(self, error: Exception) -> BackendUnavailable:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        kind = "no answer in time" if isinstance(cause, TimeoutError) else type(cause).__name__
        return BackendUnavailable(f"No answer from {self.url} ({kind}). Is the network up?")

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BackendError(f"{self.url} answered what cannot be read ({type(error).__name__}: {error}).") from error

    @property
    def _local(self) -> bool:
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")

    @property
    def _base(self) -> str:
        return f"{self.url}/api/v1" if self._local else f"{self.url}/v1"


_JSON = {"Content-Type": "application/json"}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials go to one address only."""

    def redirect_request(self, *_: object) -> None:
        return None


def _authorization(credentials: Credentials) -> str:
    if credentials.token:
        return f"Bearer {credentials.token}"
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.key}".encode()).decode()


def _moment(text: str | None) -> datetime | None:
    """A time on the wire, `2026-11-21T00:00:00.000Z`."""
    found = datetime.fromisoformat(text) if text else None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def _hours(text: str) -> float:
    """A duration on the wire, `12.500s`."""
    return float(text.removesuffix("s")) / 3600
