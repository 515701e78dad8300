"""`datasets.DatasetApiService` and the data proxy's mount call: wire in, wire out. The rules are in `datasets`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launcher.local_kaggle import errors
from launcher.local_kaggle.datasets import NewFile, Refused, Version
from launcher.local_kaggle.files import is_plain_name
from launcher.local_kaggle.installation import Caller, Installation
from launcher.local_kaggle.store import Row
from launcher.local_kaggle.wire import page, timestamp

Json = dict[str, Any]

DEEPEST_FOLDER = 32


def create_dataset(kaggle: Installation, caller: Caller, request: Json) -> Json:
    if (request.get("ownerSlug") or caller.username) != caller.username:
        raise errors.denied("datasets.create")
    title = str(request.get("title") or "")
    try:
        row = kaggle.datasets.create(
            caller.username,
            str(request.get("slug") or ""),
            title,
            _new_files(kaggle, caller, request),
            subtitle=str(request.get("subtitle") or ""),
            description=str(request.get("description") or ""),
            license_name=str(request.get("licenseName") or ""),
            is_private=bool(request.get("isPrivate")),
        )
    except Refused as refusal:
        return {"status": "error", "error": str(refusal), "ref": "", "url": ""}
    return _created(kaggle, row)


def create_dataset_version(kaggle: Installation, caller: Caller, request: Json) -> Json:
    return _create_version(kaggle, caller, _dataset(kaggle, caller, request, "datasets.update"), request)


def create_dataset_version_by_id(kaggle: Installation, caller: Caller, request: Json) -> Json:
    row = kaggle.datasets.by_id(int(request.get("id") or 0))
    if row is None or row["owner"] != caller.username:
        raise errors.denied("datasets.update")
    return _create_version(kaggle, caller, row, request)


def _create_version(kaggle: Installation, caller: Caller, row: Row, request: Json) -> Json:
    if kaggle.faults.take("dataset_denied") is not None:
        raise errors.denied("datasets.update")
    body: Json = request.get("body") or {}
    files = _new_files(kaggle, caller, body)
    kaggle.datasets.create_version(row, files, str(body.get("versionNotes") or ""), bool(body.get("deleteOldVersions")))
    return _created(kaggle, row) | {"ref": ""}


def get_dataset_status(kaggle: Installation, caller: Caller, request: Json) -> Json:
    versions = kaggle.datasets.versions(_dataset(kaggle, caller, request)["id"])
    return {"status": versions[0]["state"] if versions else "NOT_YET_PERSISTED"}


def get_dataset(kaggle: Installation, caller: Caller, request: Json) -> Json:
    row = _dataset(kaggle, caller, request)
    listed = [
        {
            "versionNumber": version["number"],
            "creationDate": timestamp(version["created_at"]),
            "creatorName": row["owner"],
            "creatorRef": row["owner"],
            "versionNotes": version["notes"],
            "status": _camel(version["state"]),
        }
        for version in kaggle.datasets.versions(row["id"])
    ]
    return _described(kaggle, row) | {"versions": listed}


def get_dataset_metadata(kaggle: Installation, caller: Caller, request: Json) -> Json:
    row = _dataset(kaggle, caller, request)
    info = {
        "datasetId": row["id"],
        "datasetSlug": row["slug"],
        "ownerUser": row["owner"],
        "title": row["title"],
        "subtitle": row["subtitle"],
        "description": row["description"],
        "isPrivate": bool(row["is_private"]),
        "licenses": [{"name": row["license"] or "unknown"}],
    }
    return {"info": info}


def list_datasets(kaggle: Installation, caller: Caller, request: Json) -> Json:
    owner = request.get("user") or caller.username
    search = str(request.get("search") or "").lower()
    rows = kaggle.datasets.of_owner(owner) if owner == caller.username else []
    shown, next_page = page([row for row in rows if search in row["title"].lower()], request)
    return {"datasets": [_described(kaggle, row) for row in shown], "nextPageToken": next_page}


def list_dataset_files(kaggle: Installation, caller: Caller, request: Json) -> Json:
    row = _dataset(kaggle, caller, request)
    version = _ready(kaggle, row, request)
    files, next_page = page(kaggle.datasets.files(version), request)
    created = {entry["number"]: entry["created_at"] for entry in kaggle.datasets.versions(row["id"])}
    listed = [
        {
            "ref": file["path"],
            "name": file["path"],
            "totalBytes": file["size"],
            "creationDate": timestamp(created[version.number]),
        }
        for file in files
    ]
    return {"datasetFiles": listed, "nextPageToken": next_page}


def download_dataset(kaggle: Installation, caller: Caller, request: Json) -> str:
    """The URL to be sent to: one file, or the whole version as a zip."""
    version = _ready(kaggle, _dataset(kaggle, caller, request), request)
    name = request.get("fileName")
    if not name:
        return kaggle.links.dataset_bundle(version)
    if name not in [row["path"] for row in kaggle.datasets.files(version)]:
        raise errors.not_found()
    return kaggle.links.dataset_file(version, name)


def delete_dataset(kaggle: Installation, caller: Caller, request: Json) -> Json:
    kaggle.datasets.delete(_dataset(kaggle, caller, request, "datasets.delete"))
    return {}


def attach_datasource(kaggle: Installation, session: Row, request: Json) -> Json:
    """`AttachDatasourceUsingJwtRequest`: mount a dataset version into the session that asks."""
    ref: Json = request.get("datasetRef") or {}
    owner, slug, number = str(ref.get("OwnerSlug")), str(ref.get("DatasetSlug")), ref.get("VersionNumber")
    mounted = None
    if owner == session["owner"]:
        mounted = kaggle.sessions.attach(session, owner, slug, int(number) if number else None)
    if mounted is None:
        return {"wasSuccessful": False, "errors": [f"Permission 'datasets.get' was denied for {owner}/{slug}"]}
    return {"wasSuccessful": True, "result": {"mountSlug": mounted[0], "versionNumber": mounted[1]}}


def _dataset(kaggle: Installation, caller: Caller, request: Json, permission: str = "datasets.get") -> Row:
    owner = request.get("ownerSlug") or caller.username
    row = kaggle.datasets.find(owner, str(request.get("datasetSlug") or ""))
    if row is None or owner != caller.username:
        raise errors.denied(permission)
    return row


def _ready(kaggle: Installation, row: Row, request: Json) -> Version:
    number = request.get("datasetVersionNumber")
    version = kaggle.datasets.ready_version(row["owner"], row["slug"], int(number) if number else None)
    if version is None:
        raise errors.not_found()
    return version


def _new_files(kaggle: Installation, caller: Caller, body: Json, depth: int = 0) -> list[NewFile]:
    """The files of a create request, folders flattened into paths. Raises RpcError 400."""
    if depth > DEEPEST_FOLDER:
        raise errors.bad_request("Folders are nested too deeply")
    files = []
    for file in body.get("files") or []:
        token = str(file.get("token") or "")
        files.append(NewFile(kaggle.uploads.by_token(caller.username, token)["name"], token))
    for folder in body.get("directories") or []:
        name = str(folder.get("name") or "")
        if not is_plain_name(name):
            raise errors.bad_request(f"Invalid folder name {name!r}")
        files += [NewFile(f"{name}/{file.path}", file.token) for file in _new_files(kaggle, caller, folder, depth + 1)]
    return files


def _created(kaggle: Installation, row: Row) -> Json:
    path = f"/datasets/{row['owner']}/{row['slug']}"
    return {"ref": path, "url": f"{kaggle.url}{path}", "status": "ok"}


def _described(kaggle: Installation, row: Row) -> Json:
    latest = kaggle.datasets.ready_version(row["owner"], row["slug"])
    files = kaggle.datasets.files(latest) if latest else []
    versions = kaggle.datasets.versions(row["id"])
    described = {
        "id": row["id"],
        "ref": f"{row['owner']}/{row['slug']}",
        "title": row["title"],
        "subtitle": row["subtitle"],
        "ownerName": row["owner"],
        "ownerRef": row["owner"],
        "creatorName": row["owner"],
        "url": f"{kaggle.url}/datasets/{row['owner']}/{row['slug']}",
        "isPrivate": bool(row["is_private"]),
        "licenseName": row["license"] or "unknown",
        "lastUpdated": timestamp(versions[0]["created_at"] if versions else row["created_at"]),
        "totalBytes": sum(file["size"] for file in files),
    }
    return described | ({"currentVersionNumber": latest.number} if latest else {})


def _camel(state: str) -> str:
    """READY -> Ready, BLOBS_RECEIVED -> BlobsReceived."""
    return "".join(word.capitalize() for word in state.split("_"))


METHODS: dict[str, Callable[[Installation, Caller, Json], Json | str]] = {
    "CreateDataset": create_dataset,
    "CreateDatasetVersion": create_dataset_version,
    "CreateDatasetVersionById": create_dataset_version_by_id,
    "GetDatasetStatus": get_dataset_status,
    "GetDataset": get_dataset,
    "GetDatasetMetadata": get_dataset_metadata,
    "ListDatasets": list_datasets,
    "ListDatasetFiles": list_dataset_files,
    "DownloadDataset": download_dataset,
    "DeleteDataset": delete_dataset,
}
