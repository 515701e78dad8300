"""`kernels.KernelsApiService`: wire in, wire out. The rules are in `kernels`, `sessions` and `quota`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from launcher.local_kaggle import errors, quota
from launcher.local_kaggle.installation import Caller, Installation
from launcher.local_kaggle.kernels import Push, Refused, shape_and_machine
from launcher.local_kaggle.states import QUICK_SAVED
from launcher.local_kaggle.store import Row
from launcher.local_kaggle.wire import duration, page, timestamp

Json = dict[str, Any]


def save_kernel(kaggle: Installation, caller: Caller, request: Json) -> Json:
    owner, _, slug = str(request.get("slug") or "").partition("/")
    if not slug and request.get("id"):
        known = kaggle.kernels.by_id(int(request["id"]))
        owner, slug = (known["owner"], known["slug"]) if known else (caller.username, "")
    if owner != caller.username:
        raise errors.denied("kernels.update")
    source = str(request.get("text") or "")
    if len(source.encode()) > kaggle.store.settings.source_limit_bytes:
        raise errors.bad_request()
    try:
        saved = kaggle.kernels.save(_push(owner, slug, source, request))
    except Refused as refusal:
        return {"error": str(refusal), "hasError": True, "ref": "", "url": "", "versionNumber": 0, "kernelId": 0}
    return {
        "ref": f"/code/{owner}/{saved.kernel['slug']}",
        "url": f"{kaggle.url}/code/{owner}/{saved.kernel['slug']}",
        "versionNumber": saved.version,
        "kernelId": saved.kernel["id"],
        "invalidDatasetSources": saved.invalid_datasets,
        "invalidKernelSources": list(request.get("kernelDataSources") or []),
        "invalidCompetitionSources": list(request.get("competitionDataSources") or []),
        "invalidModelSources": list(request.get("modelDataSources") or []),
    }


def _push(owner: str, slug: str, source: str, request: Json) -> Push:
    language, kind = request.get("language") or "python", request.get("kernelType") or "script"
    if (language, kind) != ("python", "script"):
        raise Refused(errors.ONLY_PYTHON_SCRIPTS.format(language=language, kind=kind))
    shape, machine = shape_and_machine(request)
    return Push(
        owner=owner,
        slug=slug,
        title=request.get("newTitle") or slug,
        source=source,
        machine=machine,
        shape=shape,
        timeout_s=request.get("sessionTimeoutSeconds") or None,
        internet=bool(request.get("enableInternet")),
        datasets=[str(ref) for ref in request.get("datasetDataSources") or []],
        quick_save=request.get("kernelExecutionType") == "QUICK_SAVE",
        request={key: value for key, value in request.items() if key != "id" or value},
    )


def get_kernel(kaggle: Installation, caller: Caller, request: Json) -> Json:
    slug, _, number = str(request.get("kernelSlug") or "").partition("/")
    kernel = _kernel(kaggle, caller, {**request, "kernelSlug": slug})
    if kernel["current_version"] == 0:
        raise errors.RpcError(500, "Internal Server Error")
    version = _version(kaggle, kernel, f"v{number}" if number else request.get("versionLabel"))
    pushed = json.loads(version["request"])
    blob = {"source": pushed.get("text", ""), "language": "python", "kernelType": "script", "slug": kernel["slug"]}
    return {"metadata": _metadata(kaggle, kernel), "blob": blob}


def list_kernels(kaggle: Installation, caller: Caller, request: Json) -> Json:
    owner = request.get("user") or caller.username
    search = str(request.get("search") or "").lower()
    mine = kaggle.kernels.of_owner(owner) if owner == caller.username else []
    kernels = [row for row in mine if search in row["title"].lower()]
    shown, next_page = page(kernels, request)
    return {"kernels": [_metadata(kaggle, row) for row in shown], "nextPageToken": next_page}


def get_kernel_session_status(kaggle: Installation, caller: Caller, request: Json) -> Json:
    session = _session(kaggle, caller, request)
    if session is None:
        return {"status": QUICK_SAVED}
    answer = {"status": session["state"]}
    if session["failure_message"]:
        answer["failureMessage"] = session["failure_message"]
    return answer


def list_kernel_session_output(kaggle: Installation, caller: Caller, request: Json) -> Json:
    session = _session(kaggle, caller, request)
    files, next_page = page(_outputs(kaggle, session), request)
    links = [{"url": kaggle.links.output(row["session_id"], row["path"]), "fileName": row["path"]} for row in files]
    return {"files": links, "log": persisted_log(kaggle, session) if session else "", "nextPageToken": next_page}


def list_kernel_files(kaggle: Installation, caller: Caller, request: Json) -> Json:
    files, next_page = page(_outputs(kaggle, _session(kaggle, caller, request)), request)
    listed = [{"name": r["path"], "size": r["size"], "creationDate": timestamp(r["created_at"])} for r in files]
    return {"files": listed, "nextPageToken": next_page}


def download_kernel_output(kaggle: Installation, caller: Caller, request: Json) -> str:
    """The URL to be sent to: one output file, or all of them as a zip."""
    number = request.get("versionNumber")
    named = {"userName": request.get("ownerSlug"), "kernelSlug": request.get("kernelSlug")}
    session = _session(kaggle, caller, {**named, "versionLabel": f"v{number}" if number else None})
    files = _outputs(kaggle, session)
    wanted = request.get("filePath")
    if session is None or not files or (wanted and wanted not in [row["path"] for row in files]):
        raise errors.not_found()
    if wanted:
        return kaggle.links.output(session["id"], wanted)
    return kaggle.links.output_bundle(session["id"], session["slug"])


def cancel_kernel_session(kaggle: Installation, caller: Caller, request: Json) -> Json:
    session_id = int(request.get("kernelSessionId") or 0)
    row = kaggle.store.row("SELECT * FROM sessions WHERE id = ? AND deleted = 0", session_id)
    if row is None or row["owner"] != caller.username:
        raise errors.not_found(errors.NO_SUCH_SESSION.format(session_id=session_id))
    kaggle.sessions.cancel(session_id)
    return {}


def delete_kernel(kaggle: Installation, caller: Caller, request: Json) -> Json:
    kaggle.kernels.delete(_kernel(kaggle, caller, request, permission="kernels.delete"))
    return {}


def get_accelerator_quota_statistics(kaggle: Installation, caller: Caller, request: Json) -> Json:
    now = kaggle.clock.now()
    answer: Json = {"quotaRefreshTime": timestamp(quota.next_refresh(now))}
    for machine in quota.ACCELERATORS:
        if machine == "gpu" and kaggle.faults.peek("quota_unreadable") is not None:
            continue
        usage = quota.usage(kaggle.store, machine, now, kaggle.faults.peek("quota_used_h"))
        answer[f"{machine}Quota"] = {
            "timeUsed": duration(usage.used_s),
            "timeReserved": duration(usage.reserved_s),
            "totalTimeAllowed": duration(usage.total_s),
            "minimumTimeAllowed": duration(0),
            "hasEverRun": usage.has_ever_run,
        }
    return answer


def persisted_log(kaggle: Installation, session: Row) -> str:
    """The log as one JSON array, an event a line; "" while it is not to be had."""
    if not kaggle.sessions.log_is_listed(session):
        return ""
    return "[" + "\n,".join(line for _, line in kaggle.sessions.log_events(session["id"])) + "]"


def streamed_session(kaggle: Installation, caller: Caller, owner: str, slug: str, label: str | None) -> Row:
    """The session whose log is asked for."""
    session = _session(kaggle, caller, {"userName": owner, "kernelSlug": slug, "versionLabel": label})
    if session is None:
        raise errors.not_found()
    return session


def _kernel(kaggle: Installation, caller: Caller, request: Json, permission: str = "kernels.get") -> Row:
    owner = request.get("userName") or caller.username
    kernel = kaggle.kernels.find(owner, str(request.get("kernelSlug") or ""))
    if kernel is None or owner != caller.username:
        raise errors.denied(permission)
    return kernel


def _version(kaggle: Installation, kernel: Row, label: str | None) -> Row:
    """The version that `label` ("v3"; None: the latest) names. 404 for any other form, and for an empty shell."""
    match = re.fullmatch(r"v(\d+)", label) if label else None
    if label and match is None:
        raise errors.not_found()
    version = kaggle.kernels.version(kernel, int(match[1]) if match else None)
    if version is None:
        raise errors.not_found()
    return version


def _session(kaggle: Installation, caller: Caller, request: Json) -> Row | None:
    """The session of the version asked for; None if that version was saved without a run."""
    version = _version(kaggle, _kernel(kaggle, caller, request), request.get("versionLabel"))
    return None if version["session_id"] is None else kaggle.sessions.row(version["session_id"])


def _outputs(kaggle: Installation, session: Row | None) -> list[Row]:
    if session is None or session["ended_at"] is None:
        return []
    return kaggle.store.rows("SELECT * FROM output_files WHERE session_id = ? ORDER BY path", session["id"])


def _metadata(kaggle: Installation, kernel: Row) -> Json:
    version = kaggle.kernels.version(kernel)
    if version is None:
        return {"id": kernel["id"], "ref": f"{kernel['owner']}/{kernel['slug']}", "title": errors.PRIVATE_NOTEBOOK}
    pushed = json.loads(version["request"])
    copied = ("isPrivate", "enableGpu", "enableTpu", "enableInternet", "categoryIds", "datasetDataSources")
    return {
        "id": kernel["id"],
        "ref": f"{kernel['owner']}/{kernel['slug']}",
        "title": kernel["title"],
        "author": kernel["owner"],
        "slug": kernel["slug"],
        "lastRunTime": timestamp(version["created_at"]),
        "language": "python",
        "kernelType": "script",
        "currentVersionNumber": kernel["current_version"],
        "machineShape": shape_and_machine(pushed)[0],
        "dockerImage": pushed.get("dockerImage") or "",
        **{key: pushed[key] for key in copied if key in pushed},
    }


METHODS: dict[str, Callable[[Installation, Caller, Json], Json | str]] = {
    "SaveKernel": save_kernel,
    "GetKernel": get_kernel,
    "ListKernels": list_kernels,
    "GetKernelSessionStatus": get_kernel_session_status,
    "ListKernelSessionOutput": list_kernel_session_output,
    "ListKernelFiles": list_kernel_files,
    "DownloadKernelOutput": download_kernel_output,
    "CancelKernelSession": cancel_kernel_session,
    "DeleteKernel": delete_kernel,
    "GetAcceleratorQuotaStatistics": get_accelerator_quota_statistics,
}
