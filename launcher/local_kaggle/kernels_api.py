"""Service kernels.KernelsApiService: what a request does and answers. No HTTP here."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from launcher.local_kaggle import errors, states, storage
from launcher.local_kaggle.accounts import Account
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.paths import Layout
from launcher.local_kaggle.sessions import Sessions
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

Json = dict[str, Any]

RETIRED_SHAPES = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "",
    "TpuV2256": "",
}
GPU_SHAPES = (
    "NvidiaTeslaT4",
    "NvidiaTeslaT4Highmem",
    "NvidiaL4",
    "NvidiaL4X1",
    "NvidiaTeslaA100",
    "NvidiaH100",
    "NvidiaRtxPro6000",
)
TPU_SHAPES = ("TpuV5E8", "TpuV6E8")
WEEK_S = 7 * 86_400


class KernelsApi:
    """Kernels, their sessions, and the quota that these use up."""

    def __init__(
        self, store: Store, layout: Layout, clock: Clock, faults: Faults, sessions: Sessions, url: str
    ) -> None:
        self._store, self._layout, self._clock = store, layout, clock
        self._faults, self._sessions, self._url = faults, sessions, url

    def save_kernel(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.update")
        owner, slug = self._owned(account, str(body.get("slug", "")), "kernels.update")
        title, text = str(body.get("newTitle") or slug), str(body.get("text", ""))
        if len(text.encode()) > self._store.settings.source_limit_bytes:
            raise errors.bad_request()
        language, form = str(body.get("language", "python")), str(body.get("kernelType", "script"))
        if (language, form) != ("python", "script"):
            raise errors.bad_request(errors.ONLY_PYTHON_SCRIPTS.format(language=language, kind=form))
        for value, message in ((title, errors.TOO_SHORT_TITLE), (slug, errors.TOO_SHORT_SLUG)):
            if not 5 <= len(value) <= 50:
                return _refused(message.format(least=5, most=50))
        kernel = self._store.row("SELECT * FROM kernels WHERE owner = ? AND slug = ?", owner, slug)
        if (kernel is None and slugified(title) != slug) or (kernel is not None and kernel["current_version"] == 0):
            return _refused(errors.NOTEBOOK_NOT_FOUND)
        kind, shape = _machine(body)
        if kind is None:
            return _refused(errors.SHAPE_NOT_ALLOWED.format(shape=shape))
        quick = str(body.get("kernelExecutionType", "")).upper() == "QUICK_SAVE"
        with self._store.transaction():
            if kernel is None:
                kernel_id = self._store.new_id("kernel")
                now = self._clock.now()
                self._store.insert("kernels", id=kernel_id, owner=owner, slug=slug, title=title, created_at=now)
            else:
                kernel_id = int(kernel["id"])
            # A refused first push leaves the kernel without a version: the empty shell.
            if not quick and (refusal := self._refusal(owner, kind)):
                return _refused(refusal)
            return self._new_version(kernel_id, owner, slug, kind, shape, body, quick=quick)

    def _new_version(
        self, kernel_id: int, owner: str, slug: str, kind: str, shape: str, body: Json, *, quick: bool
    ) -> Json:
        settings, now = self._store.settings, self._clock.now()
        wanted = [str(source) for source in body.get("datasetDataSources") or []]
        attached = [source for source in wanted if self._may_attach(owner, source)]
        row = self._store.rows("SELECT current_version FROM kernels WHERE id = ?", kernel_id)[0]
        number = int(row["current_version"]) + 1
        request = {key: value for key, value in body.items() if key != "text"} | {"datasetDataSources": attached}
        session_id = None if quick else self._store.new_id("session")
        self._store.insert(
            "kernel_versions",
            kernel_id=kernel_id,
            number=number,
            request=json.dumps(request | {"text": body.get("text", "")}),
            created_at=now,
            session_id=session_id,
        )
        self._store.execute("UPDATE kernels SET current_version = ? WHERE id = ?", number, kernel_id)
        if session_id is not None:
            most = settings.tpu_session_limit_s if kind == "tpu" else settings.session_limit_s
            limit_s = min(float(body.get("sessionTimeoutSeconds") or most), most)
            override = self._faults.value("session_limit_s")
            self._store.insert(
                "sessions",
                id=session_id,
                kernel_id=kernel_id,
                owner=owner,
                slug=slug,
                version=number,
                machine=kind,
                shape=shape,
                limit_s=limit_s if override is None else float(override),
                internet=int(bool(body.get("enableInternet"))),
                datasets=json.dumps(attached),
                source=str(body.get("text", "")),
                state=states.INITIAL[states.SESSION],
                entered_at=now,
                created_at=now,
            )
        return {
            "ref": f"/code/{owner}/{slug}",
            "url": f"{self._url}/code/{owner}/{slug}",
            "versionNumber": number,
            "kernelId": kernel_id,
            "invalidDatasetSources": [source for source in wanted if source not in attached],
        }

    def get_kernel(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        kernel = self._kernel(account, body, "kernels.get")
        version = self._version(kernel, body)
        request = json.loads(version["request"])
        blob = {"source": request["text"], "language": "python", "kernelType": "script", "slug": kernel["slug"]}
        return {"metadata": self._metadata(kernel), "blob": blob}

    def list_kernels(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        search = str(body.get("search") or "").lower()
        rows = [
            row
            for row in self._store.rows(
                "SELECT * FROM kernels WHERE owner = ? ORDER BY created_at DESC", account.username
            )
            if search in row["slug"] or search in row["title"].lower()
        ]
        page, token = paged(rows, body)
        return {"kernels": [self._metadata(row) for row in page], "nextPageToken": token}

    def get_kernel_session_status(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        kernel = self._kernel(account, body, "kernels.get")
        session = self._session(kernel, body)
        if session is None:
            return {"status": states.QUICK_SAVED}
        answer = {"status": session["state"]}
        if session["failure_message"]:
            answer["failureMessage"] = session["failure_message"]
        return answer

    def list_kernel_session_output(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        session = self._session(self._kernel(account, body, "kernels.get"), body)
        rows, token = paged(self._outputs(session), body)
        files = [
            {"fileName": row["path"], "url": f"{self._url}/gcs/outputs/{self._store_key(session)}/{row['path']}"}
            for row in rows
        ]
        return {"files": files, "log": self.persisted_log(session), "nextPageToken": token}

    def list_kernel_files(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        rows, token = paged(self._outputs(self._session(self._kernel(account, body, "kernels.get"), body)), body)
        files = [
            {"name": row["path"], "size": row["size"], "creationDate": timestamp(row["created_at"])} for row in rows
        ]
        return {"files": files, "nextPageToken": token}

    def output_address(self, account: Account, body: Json) -> str:
        """DownloadKernelOutput: the storage address to redirect to."""
        account.may_use_kernels("kernels.get")
        names = {"userName": body.get("ownerSlug"), "kernelSlug": body.get("kernelSlug")}
        if body.get("versionNumber"):
            names["versionLabel"] = f"v{body['versionNumber']}"
        session = self._session(self._kernel(account, names, "kernels.get"), names)
        path = str(body.get("filePath") or "")
        if not any(row["path"] == path for row in self._outputs(session)):
            raise errors.not_found()
        return f"{self._url}/gcs/outputs/{self._store_key(session)}/{path}"

    def cancel_kernel_session(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.update")
        session_id = int(body.get("kernelSessionId") or 0)
        row = self._store.row("SELECT state FROM sessions WHERE id = ? AND owner = ?", session_id, account.username)
        if row is None:
            raise errors.not_found(errors.NO_SUCH_SESSION.format(session_id=session_id))
        if "cancel" in states.events(states.SESSION, row["state"]):
            self._sessions.cancel(session_id)
        return {}

    def delete_kernel(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.delete")
        kernel = self._kernel(account, body, "kernels.delete", shell_too=True)
        for row in self._store.rows("SELECT id, state FROM sessions WHERE kernel_id = ?", kernel["id"]):
            if row["state"] in states.ACTIVE_SESSION:
                self._sessions.end_now(row["id"], "deleted", errors.CANCEL_REQUESTED)
        with self._store.transaction():
            self._store.execute("UPDATE sessions SET deleted = 1 WHERE kernel_id = ?", kernel["id"])
            self._store.execute("DELETE FROM kernels WHERE id = ?", kernel["id"])
        return {}

    def quota(self, account: Account, body: Json) -> Json:
        account.may_use_kernels("kernels.get")
        refresh = {"quotaRefreshTime": timestamp(next_refresh(self._clock.now()))}
        if self._faults.value("quota_unreadable"):
            return refresh
        return refresh | {
            "gpuQuota": self._quota_row(account.username, "gpu"),
            "tpuQuota": self._quota_row(account.username, "tpu"),
        }

    def stream_session(self, account: Account, owner: str, slug: str, version_label: str | None) -> Row | None:
        """The session whose log is asked for."""
        account.may_use_kernels("kernels.get")
        body = {"userName": owner, "kernelSlug": slug, "versionLabel": version_label}
        return self._session(self._kernel(account, body, "kernels.get"), body)

    def persisted_log(self, session: Row | None) -> str:
        """The whole log as one JSON array; empty while the session is not over, and when its log is gone."""
        if session is None or session["state"] in states.ACTIVE_SESSION or not session["log_kept"]:
            return ""
        if self._clock.now() - session["ended_at"] < self._store.settings.log_delay_s:
            return ""
        events = list(self._sessions.log_events(session["id"]))
        tail = {"stream_name": "stderr", "time": round(session["ended_at"] - session["started_at"], 3)}
        events.append(json.dumps(tail | {"data": "[NbConvertApp] Converting notebook __notebook__.ipynb to html\n"}))
        return "[" + "\n,".join(events) + "]\n"

    def used_h(self, owner: str, kind: str) -> tuple[float, float]:
        """Hours used since the last refresh, and hours that running sessions may still use."""
        now = self._clock.now()
        begin = next_refresh(now) - WEEK_S
        used = reserved = 0.0
        for row in self._store.rows(
            "SELECT * FROM sessions WHERE owner = ? AND machine = ? AND started_at IS NOT NULL", owner, kind
        ):
            end = now if row["ended_at"] is None else row["ended_at"]
            used += max(0.0, end - max(row["started_at"], begin))
            if row["state"] in states.ACTIVE_SESSION:
                reserved += max(0.0, row["limit_s"] - (now - row["started_at"]))
        preset = self._faults.value("quota_used_h") if kind == "gpu" else None
        return used / 3600 + float(preset or 0.0), reserved / 3600

    def _quota_row(self, owner: str, kind: str) -> Json:
        used, reserved = self.used_h(owner, kind)
        allowed = self._store.settings.gpu_quota_h if kind == "gpu" else self._store.settings.tpu_quota_h
        return {
            "timeUsed": f"{used * 3600:.3f}s",
            "timeReserved": f"{reserved * 3600:.3f}s",
            "totalTimeAllowed": f"{allowed * 3600:.0f}s",
            "minimumTimeAllowed": "0s",
            "isPayToScaleEnabled": False,
            "hasEverRun": used > 0,
        }

    def _refusal(self, owner: str, kind: str) -> str | None:
        """Why no session of that kind may start now, in the service's words."""
        settings = self._store.settings
        most = {"gpu": settings.gpu_sessions, "cpu": settings.cpu_sessions, "tpu": settings.tpu_sessions}[kind]
        marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
        query = f"SELECT COUNT(*) AS n FROM sessions WHERE owner = ? AND machine = ? AND state IN ({marks})"
        if self._store.rows(query, owner, kind, *states.ACTIVE_SESSION)[0]["n"] >= most:
            return errors.SESSION_COUNT_REACHED.format(kind=kind.upper(), count=most)
        if kind != "cpu":
            allowed = settings.gpu_quota_h if kind == "gpu" else settings.tpu_quota_h
            if self.used_h(owner, kind)[0] >= allowed:
                return errors.WEEKLY_QUOTA_REACHED.format(kind=kind.upper(), hours=allowed)
        return None

    def _may_attach(self, owner: str, source: str) -> bool:
        name, _, slug = source.partition("/")
        row = self._store.row(
            "SELECT d.is_private, d.owner FROM datasets d JOIN dataset_versions v ON v.dataset_id = d.id "
            "WHERE d.owner = ? AND d.slug = ? AND v.state = 'READY'",
            *(name, slug),
        )
        return row is not None and (row["owner"] == owner or not row["is_private"])

    def _owned(self, account: Account, reference: str, permission: str) -> tuple[str, str]:
        owner, _, slug = reference.rpartition("/")
        if owner not in ("", account.username):
            raise errors.denied(permission)
        return account.username, slug

    def _kernel(self, account: Account, body: Json, permission: str, *, shell_too: bool = False) -> Row:
        owner = str(body.get("userName") or account.username)
        row = self._store.row(
            "SELECT * FROM kernels WHERE owner = ? AND slug = ?", owner, str(body.get("kernelSlug", ""))
        )
        if row is None or row["owner"] != account.username:
            raise errors.denied(permission)
        if row["current_version"] == 0 and not shell_too:
            raise errors.not_found()
        return row

    def _version(self, kernel: Row, body: Json) -> Row:
        label = str(body.get("versionLabel") or "")
        number = kernel["current_version"]
        if label:
            if not re.fullmatch(r"v\d+", label):
                raise errors.not_found()
            number = int(label[1:])
        row = self._store.row("SELECT * FROM kernel_versions WHERE kernel_id = ? AND number = ?", kernel["id"], number)
        if row is None:
            raise errors.not_found()
        return row

    def _session(self, kernel: Row, body: Json) -> Row | None:
        version = self._version(kernel, body)
        return self._store.row("SELECT * FROM sessions WHERE id = ?", version["session_id"] or -1)

    def _outputs(self, session: Row | None) -> list[Row]:
        if session is None:
            return []
        return self._store.rows("SELECT * FROM output_files WHERE session_id = ? ORDER BY path", session["id"])

    def _store_key(self, session: Row | None) -> str:
        assert session is not None
        return storage.signed(self._store, f"{session['id']}")

    def _metadata(self, kernel: Row) -> Json:
        number = kernel["current_version"]
        if number == 0:
            return {
                "ref": f"{kernel['owner']}/{kernel['slug']}",
                "title": errors.PRIVATE_NOTEBOOK,
                "author": kernel["owner"],
            }
        request = json.loads(
            self._store.rows(
                "SELECT request FROM kernel_versions WHERE kernel_id = ? AND number = ?", kernel["id"], number
            )[0]["request"]
        )
        return {
            "id": kernel["id"],
            "ref": f"{kernel['owner']}/{kernel['slug']}",
            "title": kernel["title"],
            "author": kernel["owner"],
            "slug": kernel["slug"],
            "lastRunTime": timestamp(kernel["created_at"]),
            "language": "python",
            "kernelType": "script",
            "isPrivate": bool(request.get("isPrivate")),
            "enableGpu": bool(request.get("enableGpu")),
            "enableTpu": bool(request.get("enableTpu")),
            "enableInternet": bool(request.get("enableInternet")),
            "categoryIds": [],
            "datasetDataSources": request.get("datasetDataSources", []),
            "kernelDataSources": [],
            "competitionDataSources": [],
            "modelDataSources": [],
            "totalVotes": 0,
            "currentVersionNumber": number,
            "machineShape": request.get("machineShape", ""),
        }


def slugified(title: str) -> str:
    """The slug that a title gets."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def timestamp(seconds: float) -> str:
    """As the service writes moments."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def next_refresh(now: float) -> float:
    """The next Saturday 00:00 UTC after `now` [s since the epoch]."""
    moment = datetime.fromtimestamp(now, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=(5 - moment.weekday()) % 7 or 7)).timestamp()


def paged(rows: list[Row], body: Json) -> tuple[list[Row], str]:
    """One page of `rows` and the token of the next; 20 a page, at most 200."""
    size = max(1, min(int(body.get("pageSize") or 20), 200))
    token = str(body.get("pageToken") or "")
    if token and not token.isdigit():
        raise errors.bad_request("Invalid page token")
    start = int(token) if token else (max(1, int(body.get("page") or 1)) - 1) * size
    return rows[start : start + size], str(start + size) if start + size < len(rows) else ""


def _machine(body: Json) -> tuple[str | None, str]:
    """Kind of machine (cpu, gpu, tpu; None: not to be had) and its shape."""
    shape = str(body.get("machineShape") or "")
    shape = RETIRED_SHAPES.get(shape, shape)
    if shape in GPU_SHAPES:
        return "gpu", shape
    if shape in TPU_SHAPES:
        return "tpu", shape
    if shape:
        return None, shape
    if body.get("machineShape"):
        return "cpu", ""
    if body.get("enableTpu"):
        return "tpu", "TpuV5E8"
    return ("gpu", "NvidiaTeslaT4") if body.get("enableGpu") else ("cpu", "")


def _refused(message: str) -> Json:
    return {
        "ref": "",
        "url": "",
        "versionNumber": 0,
        "kernelId": 0,
        "error": message,
        "hasError": True,
        "errorNullable": message,
    }
