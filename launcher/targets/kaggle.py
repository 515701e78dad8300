"""The one module that talks to Kaggle's client; the embedded Kaggle is reached by the same code at another address.

The client is imported late (it signs in and reads the user's files at import) and in an environment emptied of
everything that it could pick up by itself: credentials go in by hand and to one address only.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import tenacity
from requests.adapters import HTTPAdapter

from kernel.contract import files
from launcher.errors import (
    BackendError,
    BackendUnavailable,
    Forbidden,
    LauncherError,
    NotFound,
    PushRefused,
    SubmissionUnknown,
    withheld,
)
from launcher.targets import log_lines, storage
from launcher.targets.answers import (
    Unavailable,
    Unreadable,
    is_empty_shell,
    refusal,
    refused_credentials,
    translated,
    utc,
    wait_s_of,
)
from launcher.targets.base import (
    ActiveSession,
    DatasetVersion,
    Kernel,
    LogLine,
    Quota,
    RemoteFile,
    SessionState,
    Status,
)
from launcher.targets.credentials import Credentials
from launcher.transfers import OnBytes

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOKS_AFTER_S = (0.5, 1.0, 2.0, 4.0)
"""Waits after each look for a kernel whose push was not answered."""
STREAM_SILENCE_S = 330.0
"""Kaggle's load balancer cuts an idle log stream after about 180 s; a longer silence is a dead connection."""
LONGEST_SESSION = timedelta(hours=13)
"""Kaggle's limit is 12 hours; what started before cannot run any more."""
_import_lock = threading.Lock()


class KaggleBackend:
    """A target that speaks Kaggle's protocol, at `url`, as whom `credentials` name.

    A question is repeated for `patience_s` without an answer; with `sign_in_s` a first one is asked here, and repeated
    no longer than that.
    """

    def __init__(
        self, url: str, credentials: Credentials, *, patience_s: float = 60.0, sign_in_s: float | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._local = urlsplit(self._url).hostname in ("127.0.0.1", "localhost", "::1")
        self._patience_s = patience_s if sign_in_s is None else sign_in_s
        with _isolated(self._url):
            from kaggle.api.kaggle_api_extended import KaggleApi

            self._client = KaggleApi.build_kaggle_client_with_params(
                args=["--local"] if self._local else [],
                username=credentials.username,
                password=credentials.key,
                api_token=credentials.token,
            )
            self._client.__enter__()
        self._http = self._client.http_client()
        session: requests.Session = self._http._session
        session.mount("http://", _WithTimeout())
        session.mount("https://", _WithTimeout())
        # A proxy or a .netrc of this machine has no business between us and an address of this machine.
        session.trust_env = not self._local
        self._kernels = self._client.kernels.kernels_api_client
        self._datasets = self._client.datasets.dataset_api_client
        self.username = credentials.username or self._whoami(credentials)
        if credentials.username and sign_in_s is not None:
            self._require_answer()
        self._patience_s = patience_s

    def push(self, kernel: Kernel) -> str:
        from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest

        request = ApiSaveKernelRequest()
        request.slug = f"{self.username}/{kernel.slug}"
        request.new_title = kernel.slug
        request.text = kernel.script.decode("utf-8")
        request.language = "python"
        request.kernel_type = "script"
        request.is_private = True
        request.enable_internet = True
        request.enable_gpu = kernel.accelerator is not None
        request.enable_tpu = False
        if kernel.accelerator is not None:
            request.machine_shape = kernel.accelerator
        request.session_timeout_seconds = kernel.timeout_s
        request.dataset_data_sources = list(kernel.dataset_sources)
        request.docker_image_pinning_type = "latest"
        try:
            # Once only, unless the target says that it did not look at the request.
            answer = self._retry(lambda: self._kernels.save_kernel(request), only_rate_limits=True)
            if is_empty_shell(answer.error):
                # An earlier push of this name was refused, and what that left could not be removed then.
                self._remove_shell(kernel.slug)
                answer = self._retry(lambda: self._kernels.save_kernel(request), only_rate_limits=True)
        except (BackendUnavailable, Unreadable) as error:
            if isinstance(error, Unavailable) and error.rate_limited:
                raise
            return self._look_for(kernel.slug, error)
        except BackendError as error:
            raise PushRefused(f"{error}\nThe kernel {kernel.slug} was not taken; nothing was spent.") from error
        if answer.error:
            self._remove_shell(kernel.slug)
            raise refusal(answer.error, kernel)
        if answer.invalid_dataset_sources:
            self.delete(kernel.slug)
            raise PushRefused(
                f"The kernel {kernel.slug} needs the dataset {', '.join(answer.invalid_dataset_sources)}, and the "
                "target did not attach it.\nThe session was ended. See `kaglaunch fetch-checkpoints`, then try again."
            )
        return str(answer.url)

    def state(self, slug: str) -> SessionState:
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        request = ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = self.username, slug
        try:
            answer = self._retry(lambda: self._kernels.get_kernel_session_status(request))
        except Forbidden as refusal:
            raise withheld(slug, refusal, self.kernels) from refusal
        return SessionState(Status(answer.status.name), answer.failure_message or "")

    def session_id(self, slug: str) -> int | None:
        return None  # Kaggle tells it to the session alone

    def log_lines(self, slug: str, skip: int = 0) -> Iterator[LogLine]:
        address = f"{self._base()}/kernels/logs/stream/{quote(self.username)}/{quote(slug)}"
        with translated(self._url):
            response = self._http._session.get(
                address,
                stream=True,
                headers={"Accept": "text/event-stream, */*"},
                timeout=(storage.CONNECT_TIMEOUT_S, STREAM_SILENCE_S),
            )
            with response:
                response.raise_for_status()
                if response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
                    lines = (line for line in log_lines.streamed(response.iter_lines()) if line is not None)
                    yield from itertools.islice(lines, skip, None)
                else:
                    yield from log_lines.whole(response.content.decode("utf-8", "replace"))[skip:]

    def cancel(self, session_id: int) -> None:
        from kagglesdk.kernels.types.kernels_api_service import ApiCancelKernelSessionRequest

        request = ApiCancelKernelSessionRequest()
        request.kernel_session_id = session_id
        answer = self._retry(lambda: self._kernels.cancel_kernel_session(request))
        if answer.error_message:
            raise BackendError(f"The target did not cancel session {session_id}: {answer.error_message}")

    def delete(self, slug: str) -> None:
        from kagglesdk.kernels.types.kernels_api_service import ApiDeleteKernelRequest

        request = ApiDeleteKernelRequest()
        request.user_name, request.kernel_slug = self.username, slug
        answer = self._retry(lambda: self._kernels.delete_kernel(request))
        if answer.error_message:
            raise BackendError(f"The target did not delete the kernel {slug}: {answer.error_message}")

    def quota(self) -> Quota | None:
        from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest

        answer = self._retry(
            lambda: self._kernels.get_accelerator_quota_statistics(ApiGetAcceleratorQuotaStatisticsRequest())
        )
        gpu = answer.gpu_quota
        if gpu is None or gpu.total_time_allowed is None or gpu.time_used is None:
            return None
        reserved = gpu.time_reserved.total_seconds() if gpu.time_reserved else 0.0
        return Quota(
            used_h=gpu.time_used.total_seconds() / 3600,
            reserved_h=reserved / 3600,
            allowed_h=gpu.total_time_allowed.total_seconds() / 3600,
            refresh=utc(answer.quota_refresh_time),
        )

    def kernels(self) -> list[str]:
        return [_slug(kernel) for kernel in self._listed_kernels()]

    def active_sessions(self) -> list[ActiveSession]:
        since = datetime.now(UTC) - LONGEST_SESSION
        found = []
        for kernel in self._listed_kernels():
            began = utc(kernel.last_run_time)
            if began is None or began < since:
                continue
            with contextlib.suppress(NotFound):  # an empty shell, or deleted since
                if not self.state(_slug(kernel)).status.final:
                    found.append(ActiveSession(_slug(kernel), bool(kernel.enable_gpu)))
        return found

    def _listed_kernels(self) -> list[Any]:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
        from kagglesdk.kernels.types.kernels_enums import KernelsListViewType

        request = ApiListKernelsRequest()
        request.group = KernelsListViewType.PROFILE
        request.page_size = 100
        kernels: list[Any] = []
        while True:
            answer = self._retry(lambda: self._kernels.list_kernels(request))
            kernels += answer.kernels or []
            if not answer.next_page_token:
                return kernels
            request.page_token = answer.next_page_token

    def datasets(self) -> list[str]:
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest
        from kagglesdk.datasets.types.dataset_enums import DatasetSelectionGroup

        request = ApiListDatasetsRequest()
        request.group = DatasetSelectionGroup.DATASET_SELECTION_GROUP_MY
        request.page_size = 100
        slugs: list[str] = []
        while True:
            answer = self._retry(lambda: self._datasets.list_datasets(request))
            slugs += [_slug(dataset) for dataset in answer.datasets or []]
            if not answer.next_page_token:
                return slugs
            request.page_token = answer.next_page_token

    def pull(self, slug: str) -> Kernel:
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

        request = ApiGetKernelRequest()
        request.user_name, request.kernel_slug = self.username, slug
        answer = self._retry(lambda: self._kernels.get_kernel(request))
        accelerator = str(answer.metadata.machine_shape or "") or None if answer.metadata.enable_gpu else None
        sources = tuple(answer.metadata.dataset_data_sources or ())
        return Kernel(slug, (answer.blob.source or "").encode(), accelerator, 0, sources)

    def output_files(self, slug: str) -> list[RemoteFile]:
        return [RemoteFile(name) for name in self._output_urls(slug)]

    def download_output(self, slug: str, name: str, to: Path, on_bytes: OnBytes | None = None) -> None:
        urls = self._output_urls(slug)
        if name not in urls:
            raise NotFound(f"The session {slug} left no output file {name!r}; it left {', '.join(urls) or 'none'}.")
        self._download(urls[name], to, on_bytes)

    def dataset_versions(self, dataset: str) -> list[DatasetVersion]:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/", 1)
        try:
            answer = self._retry(lambda: self._datasets.get_dataset(request))
        except Forbidden as refusal:
            unknown = withheld(request.dataset_slug, refusal, self.datasets)
            if isinstance(unknown, NotFound):
                return []
            raise unknown from refusal
        except NotFound:
            return []
        versions = [
            DatasetVersion(int(v.version_number), utc(v.creation_date), str(v.version_notes or ""))
            for v in answer.versions or []
            if str(getattr(v.status, "name", v.status)).upper() in ("READY", "")
        ]
        return sorted(versions, key=lambda version: version.number, reverse=True)

    def dataset_files(self, dataset: str, version: int) -> list[RemoteFile]:
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

        request = ApiListDatasetFilesRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/", 1)
        request.dataset_version_number = version
        request.page_size = 200
        files: list[RemoteFile] = []
        while True:
            answer = self._retry(lambda: self._datasets.list_dataset_files(request))
            files += [RemoteFile(str(f.name), int(f.total_bytes or 0)) for f in answer.files or []]
            if not answer.next_page_token:
                return files
            request.page_token = answer.next_page_token

    def download_dataset_file(
        self, dataset: str, version: int, name: str, to: Path, on_bytes: OnBytes | None = None
    ) -> None:
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/", 1)
        request.file_name, request.dataset_version_number = name, version
        response = self._retry(lambda: self._datasets.download_dataset(request))
        with response:
            # The answer redirects to a storage address that needs, and must get, no credentials.
            address = response.url
        self._download(address, to, on_bytes)
        if urlsplit(address).path.rsplit("/", 1)[-1] == f"{name.rsplit('/', 1)[-1]}.zip":
            storage.unwrap(to)

    def _whoami(self, credentials: Credentials) -> str:
        from kagglesdk.security.types.oauth_service import IntrospectTokenRequest

        request = IntrospectTokenRequest()
        request.token = credentials.token
        try:
            answer = self._retry(lambda: self._client.security.oauth_client.introspect_token(request))
        except NotFound as error:
            raise refused_credentials(credentials.source) from error
        if not answer.active or not answer.username:
            raise refused_credentials(credentials.source)
        return str(answer.username)

    def _require_answer(self) -> None:
        """Ask for little: any answer tells that the target is there."""
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
        from kagglesdk.kernels.types.kernels_enums import KernelsListViewType

        request = ApiListKernelsRequest()
        request.group, request.page_size = KernelsListViewType.PROFILE, 1
        try:
            self._retry(lambda: self._kernels.list_kernels(request))
        except BackendUnavailable:
            raise
        except LauncherError as error:  # whoever asks for more is told of it
            logger.debug("an answer, and not the one that was asked for: %s", error)

    def _look_for(self, slug: str, lost: BackendError) -> str:
        """Settle a lost answer by looking for the kernel, never by pushing it again."""
        for wait_s in LOOKS_AFTER_S:
            with contextlib.suppress(BackendUnavailable, NotFound):
                self.state(slug)
                return f"https://www.kaggle.com/code/{self.username}/{slug}"
            threading.Event().wait(wait_s)
        raise SubmissionUnknown(
            f"The answer to the push of {slug} was lost ({lost}), and the kernel is not to be seen yet.\n"
            "It was not pushed again. Type `kaglaunch watch` in a minute: it finds the session if it was taken."
        ) from lost

    def _remove_shell(self, slug: str) -> None:
        """A refused first push leaves an empty kernel behind that blocks its name."""
        try:
            self.delete(slug)
        except BackendError as error:
            logger.info("no empty kernel %s to remove: %s", slug, error)

    def _output_urls(self, slug: str) -> dict[str, str]:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        request = ApiListKernelSessionOutputRequest()
        request.user_name, request.kernel_slug, request.page_size = self.username, slug, 200
        urls: dict[str, str] = {}
        while True:
            answer = self._retry(lambda: self._kernels.list_kernel_session_output(request))
            urls |= {str(f.file_name): str(f.url) for f in answer.files or []}
            if not answer.next_page_token:
                return urls
            request.page_token = answer.next_page_token

    def _download(self, address: str, to: Path, on_bytes: OnBytes | None) -> None:
        """Fetch `address` into `to` through a part file beside it, which a later call continues."""
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(to.name + ".part")

        self._retry(lambda: storage.go_on(address, part, to.name, on_bytes, trust_env=not self._local))
        files.put_in_place(part, to)

    def _retry(self, call: Callable[[], T], *, only_rate_limits: bool = False) -> T:
        """`call`, its errors translated, repeated while the target asks for patience."""

        def worth_repeating(error: BaseException) -> bool:
            if not isinstance(error, BackendUnavailable):
                return False
            return error.rate_limited if only_rate_limits and isinstance(error, Unavailable) else not only_rate_limits

        def attempt() -> T:
            with translated(self._url):
                return call()

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_repeating),
            wait=wait_s_of,
            stop=tenacity.stop_before_delay(self._patience_s),
            reraise=True,
        )(attempt)

    def _base(self) -> str:
        return f"{self._url}/api/v1" if self._local else f"{self._url}/v1"


class _WithTimeout(HTTPAdapter):
    """The client sets no timeout on any call; a server that hangs would hang us."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (storage.CONNECT_TIMEOUT_S, storage.READ_TIMEOUT_S)
        return super().send(request, *args, **kwargs)


@contextlib.contextmanager
def _isolated(url: str) -> Iterator[None]:
    """Import and build the client where it finds no credentials, no home and no other address than `url`."""
    with _import_lock, tempfile.TemporaryDirectory(prefix="kaglaunch-home-") as home:
        environ = dict(os.environ)
        for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
            del os.environ[name]
        os.environ |= {"HOME": home, "USERPROFILE": home, "KAGGLE_CONFIG_DIR": home}
        from kagglesdk import kaggle_env

        # Without credentials the import of the client calls `exit`, which closes standard input.
        stdin, sys.stdin = sys.stdin, io.StringIO()
        endpoints = dict(kaggle_env._env_to_endpoint)
        kaggle_env._env_to_endpoint.update(dict.fromkeys(endpoints, url))
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            sys.stdin = stdin
            kaggle_env._env_to_endpoint.update(endpoints)
            os.environ.clear()
            os.environ.update(environ)


def _slug(kernel: Any) -> str:
    return str(kernel.ref).rsplit("/", 1)[-1]
