"""`blobs.BlobApiService` and the resumable upload behind it (308 and Range, as Google Cloud Storage speaks it)."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from launcher.local_kaggle.connections import Dropped
from launcher.local_kaggle.installation import Caller, Installation
from launcher.local_kaggle.store import Row
from launcher.local_kaggle.uploads import CONSUMED, CONTENT_RANGE, OPEN

Json = dict[str, Any]


def start_blob_upload(kaggle: Installation, caller: Caller, request: Json) -> Json:
    token, upload_id = kaggle.uploads.start(caller.username, str(request.get("name") or ""))
    return {"token": token, "createUrl": f"{kaggle.url}/upload?upload_id={upload_id}"}


METHODS = {"StartBlobUpload": start_blob_upload}


async def put(request: Request) -> Response:
    """One PUT of a resumable upload.

    Without Content-Range it holds the whole file and replaces what was there. `bytes */N` asks what has arrived;
    `bytes a-b/N` goes on from byte a. 200: the file is complete; 308 with `Range`: it is not.
    """
    kaggle: Installation = request.app.state.kaggle
    row = kaggle.uploads.find(request.query_params.get("upload_id", ""))
    if row is None:
        return PlainTextResponse("Upload not found or expired", 404)
    content_range = request.headers.get("content-range")
    if content_range is None:
        return await _receive(kaggle, row, request, start=0, total=None)
    match = CONTENT_RANGE.match(content_range)
    if match is None:
        return PlainTextResponse("Invalid Content-Range", 400)
    total = int(match[3])
    if match[1] is None:
        return _progress(kaggle, row) if row["state"] == OPEN else Response()
    start = int(match[1])
    if start > kaggle.uploads.received(row):
        return _progress(kaggle, row)
    return await _receive(kaggle, row, request, start=start, total=total)


async def _receive(kaggle: Installation, row: Row, request: Request, start: int, total: int | None) -> Response:
    if row["state"] == CONSUMED or (row["state"] != OPEN and start > 0):
        return Response()
    error = kaggle.faults.take("upload_error")
    if error is not None:
        return PlainTextResponse("fault: upload_error", int(error["status"]))
    cut, interrupted = kaggle.faults.take("upload_reset"), kaggle.faults.take("upload_interrupted")
    fault = cut or interrupted
    room = fault["bytes"] if fault is not None else None
    partial = kaggle.uploads.partial(row)
    with partial.open("r+b" if start and partial.exists() else "wb") as out:
        out.seek(start)
        out.truncate()
        try:
            async for chunk in request.stream():
                out.write(chunk if room is None else chunk[:room])
                room = None if room is None else max(0, room - len(chunk))
                if room == 0 and cut is not None:
                    break
                if total is not None and out.tell() > total:
                    return PlainTextResponse("More bytes than announced", 400)
        except ClientDisconnect:
            return Response(status_code=499)
        size = out.tell()
    if fault is not None:
        return Dropped() if cut is not None else PlainTextResponse("fault: upload_interrupted", 503)
    if total is not None and size < total:
        return _progress(kaggle, row)
    await run_in_threadpool(kaggle.uploads.complete, row)
    return Response()


def _progress(kaggle: Installation, row: Row) -> Response:
    received = kaggle.uploads.received(row)
    return Response(status_code=308, headers={"Range": f"bytes=0-{received - 1}"} if received else {})
