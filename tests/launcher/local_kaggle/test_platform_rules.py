"""Nothing in the embedded Kaggle is easier than Kaggle: limits, kills, quota, scopes, processing."""

from __future__ import annotations

import datetime
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from launcher.local_kaggle.service import LocalKaggle, ServiceError
from tests.limits import limit_s, until
from tests.processes import lives

from .callers import DATASETS, FAMILY, FAST, KERNELS, Caller, log_of, pids, reaches


def test_the_hard_limit_kills_every_process_and_takes_outputs_andlog_of(
    call: Caller, local_kaggle: LocalKaggle
) -> None:
    call.push("limited-kernel", FAMILY, sessionTimeoutSeconds=3600)
    reaches(call, "limited-kernel", "RUNNING")
    log = until(lambda: next(local_kaggle.state_dir.rglob("log.jsonl"), None) and pids(local_kaggle))
    local_kaggle.advance_clock(3599 - 60)
    time.sleep(0.3)
    assert call.state("limited-kernel")["status"] == "RUNNING"
    local_kaggle.advance_clock(120)
    state = reaches(call, "limited-kernel", "CANCEL_ACKNOWLEDGED")
    assert state["failureMessage"] == (
        "Your notebook was stopped because it exceeded the max allowed execution duration."
    )
    until(lambda: not any(map(lives, log)))
    answer = call(KERNELS, "ListKernelSessionOutput", userName="local", kernelSlug="limited-kernel")
    assert not answer.get("files")
    assert not answer.get("log")


def test_no_session_outlasts_twelve_hours_whatever_was_asked(call: Caller, local_kaggle: LocalKaggle) -> None:
    call.push("greedy-kernel", sessionTimeoutSeconds=1_000_000)
    reaches(call, "greedy-kernel", "RUNNING")
    local_kaggle.advance_clock(36_000)
    assert call.state("greedy-kernel")["status"] == "RUNNING"
    local_kaggle.advance_clock(7_200)
    reaches(call, "greedy-kernel", "CANCEL_ACKNOWLEDGED")


def test_only_the_id_that_the_session_knows_cancels_it(call: Caller, local_kaggle: LocalKaggle) -> None:
    made = call.push("cancel-kernel", "import os, time\nprint(os.environ['KAGGLE_CONTAINER_NAME'])\ntime.sleep(600)\n")
    reaches(call, "cancel-kernel", "RUNNING")
    (session,) = local_kaggle.status()["sessions"]
    assert session["session_id"] not in (made["kernelId"], made["versionNumber"])
    call.refused(404, KERNELS, "CancelKernelSession", kernelSessionId=made["kernelId"])
    call(KERNELS, "CancelKernelSession", kernelSessionId=session["session_id"])
    state = reaches(call, "cancel-kernel", "CANCEL_ACKNOWLEDGED")
    assert state["failureMessage"] == "The kernel was killed due to a requested cancel."


def test_a_kernel_that_is_deleted_while_it_runs_is_killed_and_then_denied(call: Caller) -> None:
    call.push("deleted-kernel")
    reaches(call, "deleted-kernel", "RUNNING")
    call(KERNELS, "DeleteKernel", userName="local", kernelSlug="deleted-kernel")
    said = call.refused(403, KERNELS, "GetKernelSessionStatus", userName="local", kernelSlug="deleted-kernel")
    assert said == "Permission 'kernels.get' was denied"


@pytest.mark.parametrize(("extra", "most", "kind"), [({"enableGpu": True}, 2, "GPU"), ({}, 5, "CPU")])
def test_one_session_too_many_is_refused_in_a_200(call: Caller, extra: dict[str, Any], most: int, kind: str) -> None:
    for number in range(most):
        assert not call.push(f"busy-kernel-{number}", **extra).get("error")
    refused = call.push("one-too-many", **extra)
    assert refused["error"] == f"Maximum batch {kind} session count of {most} reached."
    assert call.push("one-too-many", **extra)["error"] == "Notebook not found"
    call(KERNELS, "DeleteKernel", userName="local", kernelSlug="busy-kernel-0")
    call(KERNELS, "DeleteKernel", userName="local", kernelSlug="one-too-many")
    assert not call.push("one-too-many", **extra).get("error")


def _quota_h(call: Caller) -> tuple[float, float]:
    row = call(KERNELS, "GetAcceleratorQuotaStatistics")["gpuQuota"]
    return float(row["timeUsed"][:-1]) / 3600, float(row.get("timeReserved", "0s")[:-1]) / 3600


def test_quota_is_debited_by_the_clock_and_refreshed_on_saturday(call: Caller, local_kaggle: LocalKaggle) -> None:
    call.push("cpu-kernel")
    call.push("gpu-kernel", enableGpu=True, sessionTimeoutSeconds=36_000)
    reaches(call, "gpu-kernel", "RUNNING")
    used, reserved = _quota_h(call)
    assert used == pytest.approx(0, abs=0.01)
    assert reserved == pytest.approx(10, abs=0.01)
    answer = call(KERNELS, "GetAcceleratorQuotaStatistics")
    refresh = datetime.datetime.fromisoformat(answer["quotaRefreshTime"])
    assert (refresh.weekday(), refresh.hour, refresh.minute) == (5, 0, 0)
    now = datetime.datetime.now(datetime.UTC)
    hours_left = (refresh - now).total_seconds() / 3600
    if hours_left > 3:
        local_kaggle.advance_clock(2 * 3600)
        used, reserved = _quota_h(call)
        assert used == pytest.approx(2, abs=0.02)
        assert reserved == pytest.approx(8, abs=0.02)
    local_kaggle.advance_clock(24 * 3600)
    reaches(call, "gpu-kernel", "CANCEL_ACKNOWLEDGED")
    used, reserved = _quota_h(call)
    assert reserved == 0
    local_kaggle.advance_clock(7 * 24 * 3600)
    assert _quota_h(call)[0] == 0


def test_a_used_up_week_refuses_gpu_and_not_cpu(call: Caller, local_kaggle: LocalKaggle) -> None:
    local_kaggle.set_fault("quota_used_h", 30.0)
    assert call.push("gpu-kernel", enableGpu=True)["error"] == "Maximum weekly GPU quota of 30.00 hours reached."
    assert not call.push("cpu-kernel").get("error")


def test_titles_must_give_the_slug_and_sources_must_be_small(call: Caller) -> None:
    said = call(KERNELS, "SaveKernel", slug="local/some-kernel", newTitle="Other Title", text="1", language="python")
    assert said["error"] == "Notebook not found"
    with pytest.raises(urllib.error.HTTPError) as caught:
        call.push("large-kernel", "#" * 1_000_001)
    assert caught.value.code == 400


def test_a_dataset_that_is_not_there_is_only_reported(call: Caller) -> None:
    made = call.push("lonely-kernel", datasetDataSources=["local/no-such-data"])
    assert made["invalidDatasetSources"] == ["local/no-such-data"]
    assert not made.get("error")


def _status(call: Caller, slug: str) -> str:
    return str(call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=slug)["status"])


def test_the_first_version_must_be_ready_before_the_second(call: Caller, local_kaggle: LocalKaggle) -> None:
    local_kaggle.change_settings(dataset_copy_s=3600.0)
    call.dataset("slow-data", a__bin=b"1")
    body = {"versionNotes": "2", "files": [{"token": call.upload("b.bin", b"2")}]}
    said = call.refused(403, DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug="slow-data", body=body)
    assert said == "Permission 'datasets.update' was denied"
    until(lambda: _status(call, "slow-data") == "BLOBS_DECOMPRESSED")
    call.refused(403, DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug="slow-data", body=body)
    local_kaggle.advance_clock(3601)
    until(lambda: _status(call, "slow-data") == "READY")
    call(DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug="slow-data", body=body)


def _files(call: Caller, slug: str, version: int) -> dict[str, int]:
    def ask() -> dict[str, int] | None:
        try:
            answer = call(
                DATASETS, "ListDatasetFiles", ownerSlug="local", datasetSlug=slug, datasetVersionNumber=version
            )
        except urllib.error.HTTPError:
            return None
        return {file["name"]: file["totalBytes"] for file in answer["datasetFiles"]}

    found: dict[str, int] = until(ask)
    return found


def test_versions_are_snapshots_and_archives_come_unpacked(call: Caller) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("deep/inside.txt", "12345")
    call.dataset("packed-data", shard__zip=buffer.getvalue(), kept__zip__bin=buffer.getvalue())
    assert _files(call, "packed-data", 1) == {"kept.zip.bin": len(buffer.getvalue()), "shard/deep/inside.txt": 5}
    call.dataset("packed-data", other__bin=b"xy")
    assert _files(call, "packed-data", 2) == {"other.bin": 2}
    assert "shard/deep/inside.txt" in _files(call, "packed-data", 1)


def test_an_archive_that_would_leave_its_folder_fails_the_version(call: Caller, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../../escaped.txt", "gotcha")
    call.dataset("evil-data", shard__zip=buffer.getvalue())
    assert until(lambda: (status := _status(call, "evil-data")) in ("READY", "FAILED") and status) == "FAILED"
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ""])
def test_names_that_leave_their_folder_are_refused(call: Caller, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        call.dataset("naughty-data", **{name or "__": b"x"}) if name else call.upload("", b"x")
    assert caught.value.code == 400


def test_uploads_go_on_where_they_broke_off(call: Caller, local_kaggle: LocalKaggle) -> None:
    content = os.urandom(50_000)
    begun = call("blobs.BlobApiService", "StartBlobUpload", type="DATASET", name="big.bin", contentLength=len(content))
    half = f"bytes 0-19999/{len(content)}"
    with pytest.raises(urllib.error.HTTPError) as caught:
        call.send("PUT", begun["createUrl"], content[:20_000], **{"Content-Range": half})
    assert (caught.value.code, caught.value.headers["Range"]) == (308, "bytes=0-19999")
    rest = f"bytes 20000-{len(content) - 1}/{len(content)}"
    assert call.send("PUT", begun["createUrl"], content[20_000:], **{"Content-Range": rest})[0] in (200, 201)
    files = [{"token": begun["token"]}]
    call(DATASETS, "CreateDataset", ownerSlug="local", slug="big-data", title="big-data", isPrivate=True, files=files)
    assert _files(call, "big-data", 1) == {"big.bin": len(content)}
    names = {"ownerSlug": "local", "datasetSlug": "big-data", "fileName": "big.bin"}
    status, whole = call.send("POST", f"/api/v1/{DATASETS}/DownloadDataset", json.dumps(names).encode())
    assert (status, whole) == (200, content)


TELL = """
import os, time
print("TOKEN", open(os.environ["KAGGLE_API_V1_TOKEN"]).read(), flush=True)
time.sleep(600)
"""


def test_a_session_token_is_for_datasets_alone_and_dies_with_its_session(
    call: Caller, local_kaggle: LocalKaggle
) -> None:
    call.push("token-kernel", TELL)

    def told() -> str | None:
        for path in local_kaggle.state_dir.rglob("log.jsonl"):
            for line in path.read_text().splitlines():
                if (data := json.loads(line)["data"]).startswith("TOKEN"):
                    return str(data.split()[1])
        return None

    inside = Caller(local_kaggle, until(told))
    inside.dataset("token-data", a__bin=b"1")
    for method, body in (
        ("DeleteKernel", {"userName": "local", "kernelSlug": "token-kernel"}),
        ("CancelKernelSession", {"kernelSessionId": local_kaggle.status()["sessions"][0]["session_id"]}),
    ):
        inside.refused(403, KERNELS, method, **body)
    call(KERNELS, "CancelKernelSession", kernelSessionId=local_kaggle.status()["sessions"][0]["session_id"])
    reaches(call, "token-kernel", "CANCEL_ACKNOWLEDGED")
    inside.refused(401, DATASETS, "GetDataset", ownerSlug="local", datasetSlug="token-data")


def test_a_session_outlives_a_server_that_is_killed(call: Caller, local_kaggle: LocalKaggle) -> None:
    source = "import time\nprint('before', flush=True)\ntime.sleep(3)\nprint('after', flush=True)\n"
    call.push("tough-kernel", source)
    reaches(call, "tough-kernel", "RUNNING")
    before = local_kaggle.ensure_running(timeout_s=limit_s(20))
    os.kill(before.pid, 9)
    until(lambda: local_kaggle.find() is None)
    after = local_kaggle.ensure_running(timeout_s=limit_s(20))
    assert (after.url, after.token) == (before.url, before.token)
    assert after.pid != before.pid
    reaches(call, "tough-kernel", "COMPLETE")
    log = until(lambda: log_of(call, "tough-kernel"))
    assert "before" in log
    assert "after" in log


def test_stopping_the_server_kills_what_runs_and_says_so(call: Caller, local_kaggle: LocalKaggle) -> None:
    call.push("stopped-kernel", FAMILY)
    family = until(lambda: pids(local_kaggle))
    assert local_kaggle.stop()
    assert not any(map(lives, family))
    local_kaggle.ensure_running(timeout_s=limit_s(20))
    state = call.state("stopped-kernel")
    assert state["status"] == "CANCEL_ACKNOWLEDGED"
    assert "stopped" in state["failureMessage"]
    assert local_kaggle.stop()
    assert not local_kaggle.stop()


def test_another_installation_on_this_machine_is_left_alone(
    call: Caller, local_kaggle: LocalKaggle, tmp_path: Path
) -> None:
    call.push("first-kernel")
    reaches(call, "first-kernel", "RUNNING")
    other = LocalKaggle(tmp_path / "other-kaggle")
    other.ensure_running(timeout_s=limit_s(20))
    try:
        other.change_settings(**FAST)
        neighbour = Caller(other)
        neighbour.push("other-kernel", "print(1)\n")
        reaches(neighbour, "other-kernel", "COMPLETE")
        ids = {service.status()["sessions"][0]["session_id"] for service in (local_kaggle, other)}
        assert len(ids) == 1
        assert call.state("first-kernel")["status"] == "RUNNING"
    finally:
        other.stop()
    assert call.state("first-kernel")["status"] == "RUNNING"


def test_of_many_starters_at_once_one_starts_the_server(tmp_path: Path) -> None:
    services = [LocalKaggle(tmp_path / "shared") for _ in range(6)]
    try:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda service: service.ensure_running(timeout_s=limit_s(20)), services))
        assert len({endpoint.pid for endpoint in found}) == 1
    finally:
        services[0].stop()


def test_the_token_is_private_and_in_nolog_of(local_kaggle: LocalKaggle) -> None:
    endpoint = local_kaggle.ensure_running(timeout_s=limit_s(20))
    assert (local_kaggle.state_dir / "token").stat().st_mode & 0o077 == 0
    assert endpoint.token not in repr(endpoint)
    for path in local_kaggle.state_dir.glob("*.log"):
        assert endpoint.token not in path.read_text()


def test_an_unknown_fault_names_those_there_are(local_kaggle: LocalKaggle) -> None:
    with pytest.raises(ServiceError, match="session_limit_at_log"):
        local_kaggle.set_fault("no_such_fault", 1)


def test_a_wrong_token_is_401_and_a_foreign_thing_is_403(call: Caller, local_kaggle: LocalKaggle) -> None:
    stranger = Caller(local_kaggle, "not-a-token")
    assert stranger.refused(401, KERNELS, "GetAcceleratorQuotaStatistics") == "Unauthenticated"
    said = call.refused(403, KERNELS, "GetKernelSessionStatus", userName="alice", kernelSlug="hers-alone")
    assert said == "Permission 'kernels.get' was denied"
    said = call.refused(403, DATASETS, "GetDataset", ownerSlug="alice", datasetSlug="hers-alone")
    assert said == "Permission 'datasets.get' was denied"


def test_the_service_module_needs_no_server_library() -> None:
    code = "import sys, launcher.local_kaggle.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"starlette", "uvicorn", "requests", "anyio"} & set(loaded)
