"""The embedded Kaggle over HTTP: `python -m launcher.local_kaggle.server --state-dir D [--port P]`."""

from __future__ import annotations

import argparse
import json
import logging
import logging.handlers
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from launcher.local_kaggle import accounts, errors, files_http, states, streams
from launcher.local_kaggle.accounts import Account
from launcher.local_kaggle.blobs_api import BlobsApi
from launcher.local_kaggle.datasets_api import DatasetsApi
from launcher.local_kaggle.errors import RpcError
from launcher.local_kaggle.faults import FAULTS, Faults, UnknownFault
from launcher.local_kaggle.kernels_api import KernelsApi
from launcher.local_kaggle.paths import Layout, write_aside
from launcher.local_kaggle.sessions import Sessions
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Store

logger = logging.getLogger(__name__)
Json = dict[str, Any]
Handler = Callable[[Account, Json], Json]

TICK_S = 0.05
PORT_IN_USE = 3
"""Exit code that tells the service that its port is taken."""
_transports: dict[tuple[str, int], Any] = {}


class Kaggle:
    """Everything of one installation, put together."""

    def __init__(self, layout: Layout, url: str, token: str) -> None:
        self.layout, self.url, self.token = layout, url, token
        self.store = Store(layout.database)
        self.clock = Clock(float(self.store.meta("clock_offset_s") or 0.0))
        self.faults = Faults(self.store)
        self.sessions = Sessions(self.store, layout, self.clock, self.faults, url)
        self.kernels = KernelsApi(self.store, layout, self.clock, self.faults, self.sessions, url)
        self.blobs = BlobsApi(self.store, layout, self.clock, url)
        self.datasets = DatasetsApi(self.store, layout, self.clock, self.faults, self.blobs, url)
        kernels, datasets = self.kernels, self.datasets
        self.rpc: dict[tuple[str, str], Handler] = {
            ("kernels.KernelsApiService", "SaveKernel"): kernels.save_kernel,
            ("kernels.KernelsApiService", "GetKernel"): kernels.get_kernel,
            ("kernels.KernelsApiService", "ListKernels"): kernels.list_kernels,
            ("kernels.KernelsApiService", "ListKernelFiles"): kernels.list_kernel_files,
            ("kernels.KernelsApiService", "GetKernelSessionStatus"): kernels.get_kernel_session_status,
            ("kernels.KernelsApiService", "ListKernelSessionOutput"): kernels.list_kernel_session_output,
            ("kernels.KernelsApiService", "CancelKernelSession"): kernels.cancel_kernel_session,
            ("kernels.KernelsApiService", "DeleteKernel"): kernels.delete_kernel,
            ("kernels.KernelsApiService", "GetAcceleratorQuotaStatistics"): kernels.quota,
            ("blobs.BlobApiService", "StartBlobUpload"): self.blobs.start_blob_upload,
            ("datasets.DatasetApiService", "CreateDataset"): datasets.create_dataset,
            ("datasets.DatasetApiService", "CreateDatasetVersion"): datasets.create_dataset_version,
            ("datasets.DatasetApiService", "GetDatasetStatus"): datasets.get_dataset_status,
            ("datasets.DatasetApiService", "GetDataset"): datasets.get_dataset,
            ("datasets.DatasetApiService", "GetDatasetMetadata"): datasets.get_dataset_metadata,
            ("datasets.DatasetApiService", "ListDatasets"): datasets.list_datasets,
            ("datasets.DatasetApiService", "ListDatasetFiles"): datasets.list_dataset_files,
            ("datasets.DatasetApiService", "DeleteDataset"): datasets.delete_dataset,
            ("security.OAuthService", "IntrospectToken"): self.introspect,
            ("api.v1.DiagnosticsService", "Hello"): lambda account, _: {"userName": account.username},
        }
        self.redirects: dict[tuple[str, str], Callable[[Account, Json], str]] = {
            ("kernels.KernelsApiService", "DownloadKernelOutput"): kernels.output_address,
            ("datasets.DatasetApiService", "DownloadDataset"): datasets.download_address,
        }

    def introspect(self, _: Account, body: Json) -> Json:
        """Whose token it is, and whether it lives."""
        account = accounts.username_of(self.store, self.token, str(body.get("token", "")))
        if account is None:
            return {"active": False}
        scope = "resources.admin:*" if account.session_id is None else "datasets:* blobs:*"
        return {"active": True, "username": account.username, "userId": 1, "clientId": "", "scope": scope}

    def tick_for_ever(self, stop: threading.Event) -> None:
        """Move sessions and dataset versions along until `stop`."""
        while not stop.wait(TICK_S):
            for part in (self.sessions, self.datasets):
                try:
                    part.tick()
                except Exception:  # the next look must come whatever this one met
                    logger.exception("a look at %s failed", type(part).__name__)

    def stop_sessions(self) -> None:
        """Kill what runs; their state says why."""
        marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
        for row in self.store.rows(f"SELECT id FROM sessions WHERE state IN ({marks})", *states.ACTIVE_SESSION):
            self.sessions.end_now(row["id"], "service_stopped", errors.SERVICE_STOPPED)

    def status(self) -> Json:
        """What `kaglaunch local status` shows."""
        sessions = self.store.rows("SELECT * FROM sessions WHERE deleted = 0 ORDER BY created_at DESC LIMIT 50")
        datasets = self.store.rows("SELECT owner, slug, last_version FROM datasets ORDER BY created_at DESC LIMIT 50")
        used, reserved = self.kernels.used_h(accounts.USERNAME, "gpu")
        return {
            "url": self.url,
            "pid": os.getpid(),
            "state_dir": str(self.layout.root),
            "clock": {"now_s": self.clock.now(), "offset_s": self.clock.offset_s},
            "gpu_quota": {"used_h": used, "reserved_h": reserved, "allowed_h": self.store.settings.gpu_quota_h},
            "faults": self.faults.all(),
            "sessions": [
                {"kernel": f"{row['owner']}/{row['slug']}", "session_id": row["id"], "state": row["state"]}
                for row in sessions
            ],
            "datasets": [f"{row['owner']}/{row['slug']} v{row['last_version']}" for row in datasets],
        }


class _Protocol(H11Protocol):
    """HTTP/1.1 whose connections a fault can break."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        _transports[transport.get_extra_info("peername")[:2]] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _transports.pop(self.transport.get_extra_info("peername")[:2], None)
        super().connection_lost(exc)


def break_connection(request: Request) -> Response:
    """Reset the connection of `request`: its client gets no further byte."""
    assert request.client is not None
    transport = _transports.get((request.client.host, request.client.port))
    if transport is not None:
        transport.abort()
    return Response(status_code=500)


def application(kaggle: Kaggle, stop: Callable[[], None]) -> Starlette:
    """The routes."""

    def account_of(request: Request) -> Account:
        return accounts.authenticate(kaggle.store, kaggle.token, request.headers.get("Authorization"))

    async def rpc(request: Request) -> Response:
        service, method = request.path_params["service"], request.path_params["method"]
        if kaggle.faults.take("connection_reset", method) is not None:
            return break_connection(request)
        if (hang := kaggle.faults.take("hang", method)) is not None:
            await streams.pause(float(hang.get("seconds", 3600)), request)
            return break_connection(request)
        if (fault := kaggle.faults.take("http_error", method)) is not None:
            return _error_answer(fault)
        body = json.loads(await request.body() or b"{}")
        if not isinstance(body, dict):
            raise errors.bad_request()
        account = Account("") if method == "IntrospectToken" else account_of(request)
        if (redirect := kaggle.redirects.get((service, method))) is not None:
            address = await run_in_threadpool(redirect, account, body)
            return RedirectResponse(address, status_code=302)
        handler = kaggle.rpc.get((service, method))
        if handler is None:
            raise errors.not_found(f"No method {service}/{method} here; see docs/embedded-kaggle.md")
        answer = await run_in_threadpool(handler, account, body)
        if kaggle.faults.take("answer_lost", method) is not None:
            return break_connection(request)
        return JSONResponse(answer)

    async def log_stream(request: Request) -> Response:
        if (fault := kaggle.faults.take("http_error", "log_stream")) is not None:
            return _error_answer(fault)
        names = request.path_params
        account = account_of(request)
        session = kaggle.kernels.stream_session(
            account, names["owner"], names["slug"], request.query_params.get("versionLabel")
        )
        return streams.log_response(kaggle, session, request, break_connection)

    async def attach(request: Request) -> Response:
        token = request.headers.get("X-Kaggle-Authorization", "").removeprefix("Bearer ")
        row = kaggle.store.row("SELECT id, owner FROM sessions WHERE user_token_sha256 = ?", accounts.digest(token))
        if row is None:
            raise errors.unauthenticated()
        wanted = (await request.json()).get("datasetRef") or {}
        number = int(wanted["VersionNumber"]) if wanted.get("VersionNumber") else None
        name = f"{wanted.get('OwnerSlug', '')}/{wanted.get('DatasetSlug', '')}"
        if not name.startswith(f"{row['owner']}/"):
            raise errors.denied("datasets.get")
        place = await run_in_threadpool(kaggle.sessions.attach, row["id"], name, number)
        if place is None:
            return JSONResponse({"wasSuccessful": False, "errors": [f"No ready dataset {name}"]})
        mount = place.relative_to(kaggle.layout.session(row["id"]) / "kaggle" / "input").as_posix()
        return JSONResponse({"wasSuccessful": True, "result": {"mountSlug": mount, "versionNumber": number}})

    async def admin(request: Request) -> Response:
        if account_of(request).session_id is not None:
            raise errors.denied("local.admin")
        verb, body = request.path_params["verb"], json.loads(await request.body() or b"{}")
        try:
            return JSONResponse(await run_in_threadpool(administer, verb, body))
        except (UnknownFault, ValueError) as error:
            raise errors.bad_request(str(error)) from error

    def administer(verb: str, body: Json) -> Json:
        match verb:
            case "status":
                return kaggle.status()
            case "fault":
                kaggle.faults.set(body["name"], body["value"])
            case "clear-faults":
                kaggle.faults.clear()
            case "faults":
                return {"set": kaggle.faults.all(), "known": {name: row.effect for name, row in FAULTS.items()}}
            case "settings":
                return json.loads(kaggle.store.change_settings(body).to_json())
            case "clock":
                kaggle.clock.advance(float(body["advance_s"]))
                kaggle.store.set_meta("clock_offset_s", repr(kaggle.clock.offset_s))
            case "stop":
                kaggle.stop_sessions()
                stop()
            case _:
                raise errors.not_found(f"No admin verb {verb}")
        return {}

    async def page(request: Request) -> Response:
        return HTMLResponse("<p>The embedded Kaggle. It has no pages; use <code>kaglaunch</code>.</p>")

    routes: list[Route] = []
    for prefix in ("/api/v1", "/v1"):
        routes += [
            Route(prefix + "/kernels/logs/stream/{owner}/{slug}", log_stream, methods=["GET"]),
            Route(prefix + "/{service}/{method}", rpc, methods=["POST"]),
        ]
    routes += [
        Route("/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest", attach, methods=["POST"]),
        Route("/gcs/upload", files_http.put(kaggle, break_connection), methods=["PUT"]),
        Route("/gcs/outputs/{segment}/{path:path}", files_http.outputs(kaggle), methods=["GET"]),
        Route("/gcs/datasets/{segment}/{kind}/{path:path}", files_http.dataset(kaggle), methods=["GET"]),
        Route("/local/{verb}", admin, methods=["POST"]),
        Route("/code/{path:path}", page, methods=["GET"]),
        Route("/datasets/{path:path}", page, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={RpcError: _rpc_error, json.JSONDecodeError: _not_json})


async def _rpc_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RpcError)
    return JSONResponse({"code": error.code, "message": error.message}, error.code, headers=error.headers)


async def _not_json(_: Request, __: Exception) -> Response:
    return JSONResponse({"code": 400, "message": "Bad Request"}, 400)


def _error_answer(fault: Json) -> Response:
    status = int(fault.get("status", 500))
    headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
    if fault.get("html"):
        return HTMLResponse(f"<html><body><h1>{status}</h1></body></html>", status, headers=headers)
    words = {401: "Unauthenticated", 403: "Permission 'kernels.get' was denied", 429: "TooManyRequests"}
    message = str(fault.get("message") or words.get(status, "Internal error"))
    return JSONResponse({"code": status, "message": message}, status, headers=headers)


def bound(port: int | None, before: int | None) -> socket.socket:
    """A listening socket: at `port`, else where this installation listened before, else anywhere.

    Raises OSError when `port` is taken.
    """
    for candidate in [port] if port is not None else [before or 0, 0]:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
            return listener
        except OSError:
            listener.close()
            if port is not None or candidate == 0:
                raise
    raise AssertionError("the last candidate returns or raises")


def main(argv: list[str]) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="launcher.local_kaggle.server")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    given = parser.parse_args(argv)
    layout = Layout(given.state_dir.resolve())
    layout.make()
    handler = logging.handlers.RotatingFileHandler(layout.log, maxBytes=1_000_000, backupCount=2, encoding="utf-8")
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s %(message)s")
    before = json.loads(layout.address.read_text())["port"] if layout.address.exists() else None
    try:
        listener = bound(given.port, before)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return PORT_IN_USE
    port = listener.getsockname()[1]
    kaggle = Kaggle(layout, f"http://127.0.0.1:{port}", layout.token.read_text(encoding="utf-8").strip())
    address = {"port": port, "pid": os.getpid(), "started": time.time()}
    write_aside(layout.address, json.dumps(address).encode())
    halt = threading.Event()
    threading.Thread(target=kaggle.tick_for_ever, args=(halt,), name="tick", daemon=True).start()
    config = uvicorn.Config(
        _outermost(application(kaggle, lambda: setattr(server, "should_exit", True))),
        http=_Protocol,
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    halt.set()
    return 0


def _outermost(app: Starlette) -> Callable[..., Awaitable[None]]:
    """Log what a handler did not expect; the answer is a plain 500."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            logger.exception("%s %s failed", scope.get("method"), scope.get("path"))
            raise

    return outer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
