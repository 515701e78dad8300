"""The server process: `python -m launcher.local_kaggle.server --state-dir D [--port P]`.

Routes requests to the API modules, applies the faults that concern whole requests, and owns the process's life.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import hmac
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from kernel.contract.files import write_aside
from launcher.local_kaggle import accounts_api, admin_api, blobs_api, datasets_api, errors, kernels_api, logs_api
from launcher.local_kaggle.connections import Dropped, Hanging, Protocol, Spoilt
from launcher.local_kaggle.files import Layout, md5_header
from launcher.local_kaggle.installation import Caller, Installation
from launcher.local_kaggle.store import Store

log = logging.getLogger("launcher.local_kaggle.server")

EXIT_PORT_IN_USE = 3
EXIT_ALREADY_RUNNING = 4
LARGEST_BODY = 32 * 1024 * 1024

METHODS: dict[str, dict[str, Callable[[Installation, Caller, dict[str, Any]], dict[str, Any] | str]]] = {
    "kernels.KernelsApiService": {**kernels_api.METHODS},
    "datasets.DatasetApiService": {**datasets_api.METHODS},
    "blobs.BlobApiService": {**blobs_api.METHODS},
    "api.v1.DiagnosticsService": {"Hello": accounts_api.hello},
}


async def rpc(request: Request) -> Response:
    """`POST /v1/{service}/{method}`: an answer as JSON, or a redirect where the method gives a URL."""
    kaggle = _kaggle(request)
    service, method = request.path_params["service"], request.path_params["method"]
    body = await _json_body(request)

    async def answer() -> Response:
        if (service, method) == ("security.OAuthService", "IntrospectToken"):
            return JSONResponse(await run_in_threadpool(accounts_api.introspect_token, kaggle, body))
        caller = _authenticated(request)
        handler = METHODS.get(service, {}).get(method)
        if handler is None:
            raise errors.not_found(f"{service}/{method} is not emulated")
        accounts_api.check_scope(caller, service, method)
        result = await run_in_threadpool(handler, kaggle, caller, body)
        return RedirectResponse(result, 302) if isinstance(result, str) else JSONResponse(result)

    return await _with_faults(kaggle, method, answer)


async def log_stream(request: Request) -> Response:
    kaggle = _kaggle(request)

    async def answer() -> Response:
        caller = _authenticated(request)
        accounts_api.check_scope(caller, "kernels.KernelsApiService", "LogStream")
        return await run_in_threadpool(logs_api.stream, kaggle, caller, request)

    return await _with_faults(kaggle, "LogStream", answer)


async def storage(request: Request) -> Response:
    """A stored file by its signed link: ETag, Range and If-Range, MD5; no authentication."""
    kaggle = _kaggle(request)

    async def answer() -> Response:
        stored = await run_in_threadpool(kaggle.links.resolve, **request.path_params)
        if stored is None:
            raise errors.not_found()
        headers = {"ETag": f'"{stored.md5}"', "x-goog-hash": f"md5={md5_header(stored.md5)}"}
        name = request.path_params["name"]
        cut = await run_in_threadpool(kaggle.faults.take, "download_cut", file=name)
        wrong = await run_in_threadpool(kaggle.faults.take, "download_wrong", file=name)
        response = FileResponse(stored.path, media_type="application/octet-stream", headers=headers)
        if not cut and not wrong:
            return response
        return Spoilt(response, cut["bytes"] if cut else None, wrong["bytes"] if wrong else None)

    return await _with_faults(kaggle, "Storage", answer)


async def attach(request: Request) -> Response:
    kaggle = _kaggle(request)
    body = await _json_body(request)

    async def answer() -> Response:
        authorization = request.headers.get("x-kaggle-authorization", "")
        session = accounts_api.proxy_session(kaggle, authorization, request.headers.get("x-kaggle-proxy-data", ""))
        if session is None:
            raise errors.unauthenticated()
        return JSONResponse(await run_in_threadpool(datasets_api.attach_datasource, kaggle, session, body))

    return await _with_faults(kaggle, "AttachDatasource", answer)


async def upload(request: Request) -> Response:
    return await _with_faults(_kaggle(request), "Upload", lambda: blobs_api.put(request))


async def ping(request: Request) -> Response:
    """Prove that we hold the installation's token, without anybody sending it: HMAC of the asker's nonce."""
    pid, nonce = os.getpid(), request.query_params.get("nonce", "")
    proof = hmac.new(_kaggle(request).token.encode(), f"ping {nonce} {pid}".encode(), hashlib.sha256).hexdigest()
    return JSONResponse({"pid": pid, "proof": proof})


async def page(request: Request) -> Response:
    """Where Kaggle has a page of a kernel or a dataset."""
    return PlainTextResponse("The embedded Kaggle has no pages. Use `kaglaunch watch` or `kaglaunch local status`.\n")


async def admin(request: Request) -> Response:
    kaggle, method = _kaggle(request), request.path_params["method"]
    if _authenticated(request).session is not None:
        raise errors.denied("local.admin")
    answer = JSONResponse(await run_in_threadpool(admin_api.call, kaggle, method, await _json_body(request)))
    if method == "stop":
        request.app.state.server.should_exit = True
    return answer


async def _with_faults(kaggle: Installation, method: str, answer: Callable[[], Awaitable[Response]]) -> Response:
    """`answer()`, unless a fault is set that concerns this request as a whole."""
    take = kaggle.faults.take
    if await run_in_threadpool(take, "hang", method):
        return Hanging()
    if await run_in_threadpool(take, "connection_reset", method):
        return Dropped()
    rule = await run_in_threadpool(take, "http_error", method)
    response = _ordered_error(rule) if rule else await answer()
    if await run_in_threadpool(take, "answer_lost", method):
        return Dropped()
    newer = await run_in_threadpool(kaggle.faults.peek, "api_version")
    if newer is not None:
        response.headers["X-Kaggle-APIVersion"] = response.headers["X-Kaggle-HubVersion"] = str(newer["version"])
    return response


def _ordered_error(rule: dict[str, Any]) -> Response:
    status = int(rule["status"])
    words = {401: "Unauthenticated", 403: "Permission 'kernels.get' was denied", 429: "TooManyRequests"}
    message = rule["message"] or words.get(status, "Internal Server Error")
    headers = {"Retry-After": str(rule["retry_after"])} if rule["retry_after"] else {}
    if rule["html"]:
        return HTMLResponse(f"<html><body><h1>{status}</h1>{message}</body></html>", status, headers)
    if rule["google"]:
        error = {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED"}
        return JSONResponse({"error": error}, status, headers)
    return JSONResponse({"code": status, "message": message}, status, headers)


def _kaggle(request: Request) -> Installation:
    kaggle: Installation = request.app.state.kaggle
    return kaggle


def _authenticated(request: Request) -> Caller:
    caller = accounts_api.caller_of(_kaggle(request), request.headers.get("authorization", ""))
    if caller is None:
        raise errors.unauthenticated()
    return caller


async def _json_body(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise errors.RpcError(413, "Request Entity Too Large")
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise errors.bad_request("The request body is no JSON") from None
    if not isinstance(value, dict):
        raise errors.bad_request("The request body is no JSON object")
    return value


async def _rpc_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.RpcError)
    return JSONResponse({"code": error.code, "message": error.message}, error.code, error.headers)


async def _server_error(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"code": 500, "message": "Internal Server Error"}, 500)


def make_app(kaggle: Installation) -> Starlette:
    routes = [
        Route("/upload", upload, methods=["PUT"]),
        Route("/storage/{kind}/{key}/{expires}/{signature}/{name:path}", storage, methods=["GET", "HEAD"]),
        Route("/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest", attach, methods=["POST"]),
        Route("/local/ping", ping),
        Route("/local/{method}", admin, methods=["POST"]),
        Route("/code/{path:path}", page),
        Route("/datasets/{path:path}", page),
    ]
    for prefix in ("/api/v1", "/v1"):
        routes.append(Route(f"{prefix}/kernels/logs/stream/{{owner}}/{{slug}}", log_stream))
        routes.append(Route(f"{prefix}/{{service}}/{{method}}", rpc, methods=["POST"]))
    handlers = {errors.RpcError: _rpc_error, Exception: _server_error}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.kaggle = kaggle
    return app


def listen(port: int | None, last_port: int | None) -> socket.socket:
    """A listening socket on 127.0.0.1: on `port`; else on the last one, which running sessions know; else on any.

    Raises OSError if `port` is given and taken.
    """
    candidates = [port] if port else [candidate for candidate in (last_port, 0) if candidate is not None]
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
            listener.listen(128)
            return listener
        except OSError:
            listener.close()
            if candidate == candidates[-1]:
                raise
    raise AssertionError("no candidate port")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m launcher.local_kaggle.server", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    options = parser.parse_args(arguments)
    layout = Layout(options.state_dir.resolve())
    _log_to(layout.log)
    with layout.server_lock.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return EXIT_ALREADY_RUNNING
        try:
            listener = listen(options.port, _last_port(layout))
        except OSError as error:
            log.error("port %s: %s", options.port, error)
            return EXIT_PORT_IN_USE
        serve(layout, listener)
    return 0


def serve(layout: Layout, listener: socket.socket) -> None:
    """Serve until asked to stop. Sessions outlive this process unless the stop came through `/local/stop`."""
    port = listener.getsockname()[1]
    kaggle = Installation(layout.state_dir, layout.token.read_text("utf-8").strip(), f"http://127.0.0.1:{port}")
    kaggle.store.set_meta("port", str(port))
    app = make_app(kaggle)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    app.state.server = uvicorn.Server(config)
    kaggle.start()
    write_aside(layout.endpoint, json.dumps({"pid": os.getpid(), "port": port}).encode(), mode=0o600)
    log.info("serving on %s, pid %d", kaggle.url, os.getpid())
    try:
        app.state.server.run(sockets=[listener])
    finally:
        kaggle.stop()
        layout.endpoint.unlink(missing_ok=True)
        log.info("stopped")


def _last_port(layout: Layout) -> int | None:
    """The port of the server before us, if it left its address behind or its state remembers it."""
    if not layout.database.exists():
        return None
    store = Store(layout.database)
    try:
        return int(store.meta("port") or 0) or None
    finally:
        store.close()


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=2_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    os.chmod(path, 0o600)


if __name__ == "__main__":
    sys.exit(main())
