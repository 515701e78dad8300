"""Bytes over HTTP without credentials: uploads in parts, downloads in ranges."""

from __future__ import annotations

import base64
import os
import tempfile
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from launcher.local_kaggle import errors, storage
from launcher.local_kaggle.paths import relative_name

if TYPE_CHECKING:
    from launcher.local_kaggle.server import Kaggle

Endpoint = Callable[[Request], Awaitable[Response]]


def put(kaggle: Kaggle, break_connection: Callable[[Request], Response]) -> Endpoint:
    """PUT /gcs/upload: the whole file, the rest of it, or the question how much is there."""

    async def endpoint(request: Request) -> Response:
        upload_id = request.query_params.get("upload_id", "")
        kaggle.blobs.upload(upload_id)
        if (fault := kaggle.faults.take("upload_error", "PUT")) is not None:
            return Response(status_code=int(fault.get("status", 500)))
        interrupted = kaggle.faults.take("upload_interrupted", "PUT")
        reset = kaggle.faults.take("upload_reset", "PUT")
        content_range = request.headers.get("Content-Range")
        have, total = kaggle.blobs.begin_part(upload_id, content_range)
        path = kaggle.blobs.part(upload_id)
        strike = (interrupted or reset or {}).get("bytes", 1000)
        asked = content_range is not None and content_range.startswith("bytes */")
        if not asked:
            received = 0
            with path.open("ab") as file:
                async for chunk in request.stream():
                    if (interrupted or reset) is not None and received + len(chunk) >= strike:
                        file.write(chunk[: strike - received])
                        file.flush()
                        return Response(status_code=503) if interrupted is not None else break_connection(request)
                    file.write(chunk)
                    received += len(chunk)
                file.flush()
                os.fsync(file.fileno())
            have += received
        if total is not None and have < total:
            headers = {"Range": f"bytes=0-{have - 1}"} if have else {}
            return Response(status_code=308, headers=headers)
        kaggle.blobs.complete(upload_id)
        return Response(status_code=200)

    return endpoint


def outputs(kaggle: Kaggle) -> Endpoint:
    """GET /gcs/outputs: one output file of a session."""

    async def endpoint(request: Request) -> Response:
        session_id = int(storage.unsigned(kaggle.store, request.path_params["segment"]))
        name = relative_name(request.path_params["path"])
        row = kaggle.store.row("SELECT md5 FROM output_files WHERE session_id = ? AND path = ?", session_id, name)
        path = kaggle.layout.working(session_id) / name
        if row is None or not path.is_file():
            raise errors.not_found()
        return _file(path, row["md5"])

    return endpoint


def dataset(kaggle: Kaggle) -> Endpoint:
    """GET /gcs/datasets: one file of a version, that file zipped, or the whole version zipped."""

    async def endpoint(request: Request) -> Response:
        dataset_id, number = kaggle.datasets.stored(request.path_params["segment"])
        kind, name = request.path_params["kind"], relative_name(request.path_params["path"])
        folder = kaggle.layout.version(dataset_id, number)
        if kind == "archive":
            return await _zipped({p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()})
        if kind == "zipped":
            name = name.removesuffix(".zip")
        query = "SELECT md5 FROM dataset_files WHERE dataset_id = ? AND number = ? AND path = ?"
        row = kaggle.store.row(query, dataset_id, number, name)
        if row is None:
            raise errors.not_found()
        if kind == "zipped":
            return await _zipped({name.rsplit("/", 1)[-1]: folder / name})
        return _file(folder / name, row["md5"])

    return endpoint


def _file(path: Path, md5: str) -> Response:
    """Octets with length, entity tag and range; never as JSON, which the client would read as an answer."""
    headers = {"x-goog-hash": f"md5={base64.b64encode(bytes.fromhex(md5)).decode()}", "Accept-Ranges": "bytes"}
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


async def _zipped(members: dict[str, Path]) -> Response:
    def write() -> str:
        with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, path in sorted(members.items()):
                    archive.write(path, name)
            return file.name

    path = await run_in_threadpool(write)
    remove: Any = BackgroundTask(os.unlink, path)
    return FileResponse(path, media_type="application/zip", background=remove)
