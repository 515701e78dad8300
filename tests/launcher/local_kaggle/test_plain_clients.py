"""The unmodified kaggle command line and kagglehub work against the embedded Kaggle."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.local_kaggle.service import LocalKaggle
from tests.limits import limit_s, until

from .callers import FAST
from .plain_clients import Clients

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """One installation for the module: every test uses kernels and datasets of its own."""
    folder = tmp_path_factory.mktemp("plain")
    kaggle = LocalKaggle(folder / "local-kaggle")
    kaggle.ensure_running(timeout_s=limit_s(20))
    kaggle.change_settings(**FAST)
    yield Clients(kaggle, folder / "home")
    kaggle.stop()


def _dataset(clients: Clients, slug: str, files: dict[str, bytes]) -> Path:
    folder = clients.home / "datasets" / slug
    folder.mkdir(parents=True, exist_ok=True)
    values = {"id": f"local/{slug}", "title": slug, "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(values))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _ready(clients: Clients, slug: str, version: int) -> None:
    def ready() -> bool:
        said = clients.cli("datasets", "status", f"local/{slug}", "--format", "json")
        values = json.loads(said[said.index("{") : said.rindex("}") + 1])
        return bool(values["status"] == "ready" and values["current_version_number"] >= version)

    until(ready)


def test_quota_shows_thirty_hours(clients: Clients) -> None:
    said = clients.cli("quota")
    assert "30" in said
    assert "gpu" in said.lower()


def test_a_kernel_is_pushed_followed_read_pulled_and_deleted(clients: Clients) -> None:
    source = "import sys\nprint('hello from inside')\nprint('to stderr', file=sys.stderr)\n"
    source += "open('out.txt', 'w').write('42')\n"
    said = clients.push("plain-kernel", source)
    assert "successfully pushed" in said
    followed = clients.cli("kernels", "logs", "-f", "local/plain-kernel")
    assert "hello from inside" in followed
    assert clients.wait_for("plain-kernel", "COMPLETE") == "COMPLETE"
    assert "COMPLETE" in clients.cli("kernels", "status", "local/plain-kernel")
    log = clients.cli("kernels", "logs", "local/plain-kernel")
    events = json.loads(log[log.index("[") :])
    assert {"stdout", "stderr"} <= {event["stream_name"] for event in events}
    assert "out.txt" in clients.cli("kernels", "files", "local/plain-kernel")
    target = clients.home / "output"
    clients.cli("kernels", "output", "local/plain-kernel", "-p", str(target))
    assert (target / "out.txt").read_text() == "42"
    assert "plain-kernel" in clients.cli("kernels", "list", "--mine")
    pulled = clients.home / "pulled"
    clients.cli("kernels", "pull", "local/plain-kernel", "-p", str(pulled), "-m")
    assert next(pulled.glob("*.py")).read_text() == source
    clients.cli("kernels", "delete", "local/plain-kernel", "-y")
    clients.cli("kernels", "status", "local/plain-kernel", code=1)


def test_a_failing_kernel_is_an_error_with_its_log_and_without_outputs(clients: Clients) -> None:
    clients.push("failing-kernel", "open('out.txt', 'w').write('x')\nraise SystemExit(3)\n")
    assert clients.wait_for("failing-kernel", "ERROR", "COMPLETE") == "ERROR"
    assert "ERROR" in clients.cli("kernels", "status", "local/failing-kernel")
    assert "out.txt" not in clients.cli("kernels", "files", "local/failing-kernel")


def test_a_dataset_is_created_versioned_listed_downloaded_and_deleted(clients: Clients) -> None:
    folder = _dataset(clients, "plain-dataset", {"a.bin": b"first", "empty.bin": b""})
    clients.cli("datasets", "create", "-p", str(folder))
    _ready(clients, "plain-dataset", 1)
    time.sleep(1.1)  # the client keys its upload cache by the second of the file's change
    (folder / "a.bin").write_bytes(b"the second one")
    (folder / "b.bin").write_bytes(b"new")
    clients.cli("datasets", "version", "-p", str(folder), "-m", "second")
    _ready(clients, "plain-dataset", 2)
    listed = clients.cli("datasets", "files", "local/plain-dataset")
    assert all(name in listed for name in ("a.bin", "b.bin", "empty.bin"))
    assert "plain-dataset" in clients.cli("datasets", "list", "--mine")
    whole = clients.home / "whole"
    clients.cli("datasets", "download", "local/plain-dataset", "-p", str(whole), "--unzip")
    assert (whole / "a.bin").read_bytes() == b"the second one"
    single = clients.home / "single"
    clients.cli("datasets", "download", "local/plain-dataset", "-f", "b.bin", "-p", str(single))
    assert (single / "b.bin").read_bytes() == b"new"
    clients.cli("datasets", "delete", "local/plain-dataset", "-y")
    assert "plain-dataset" not in clients.cli("datasets", "list", "--mine")


def test_kagglehub_uploads_twice_and_downloads_each_version(clients: Clients) -> None:
    upload = "kagglehub.dataset_upload(sys.argv[1], sys.argv[2], version_notes=sys.argv[3])"
    folder = clients.home / "hub"
    (folder / "deep").mkdir(parents=True)
    for version, text in ((1, b"one"), (2, b"two")):
        (folder / f"v{version}.bin").write_bytes(text)
        (folder / "deep" / "same.bin").write_bytes(text)
        clients.hub(upload, "local/hub-dataset", str(folder), f"note {version}")
        _ready(clients, "hub-dataset", version)
    download = "print('AT', kagglehub.dataset_download(sys.argv[1]))"

    def downloaded(handle: str) -> Path:
        return Path(re.findall(r"^AT (.*)$", clients.hub(download, handle), re.MULTILINE)[0])

    first = downloaded("local/hub-dataset/versions/1")
    assert sorted(p.name for p in first.rglob("*.bin")) == ["same.bin", "v1.bin"]
    assert (first / "deep" / "same.bin").read_bytes() == b"one"
    newest = downloaded("local/hub-dataset")
    assert (newest / "deep" / "same.bin").read_bytes() == b"two"


INSIDE = """
import os, sys, time, pathlib, kagglehub
for name in ("launcher", "kernel", "arz_model"):
    try:
        __import__(name)
        print("IMPORTABLE", name)
    except ModuleNotFoundError:
        pass
print("UNBUFFERED", os.environ.get("PYTHONUNBUFFERED"), "USERTOKEN", os.environ.get("KAGGLE_API_TOKEN"))
staging = pathlib.Path("staging"); staging.mkdir()
for n in (1, 2):
    (staging / f"c{n}.zip.bin").write_bytes(b"x" * 1000 * n)
    for attempt in range(50):
        try:
            kagglehub.dataset_upload("local/inside-ckpt", str(staging), version_notes=f"t={n}")
            break
        except Exception as error:
            print("RETRY", type(error).__name__, flush=True); time.sleep(0.2)
print("ID", os.environ["KAGGLE_CONTAINER_NAME"])
"""


@pytest.mark.trains  # kagglehub is of the extra
def test_a_session_publishes_dataset_versions_with_its_own_token(clients: Clients) -> None:
    clients.push("inside-kernel", INSIDE)
    assert clients.wait_for("inside-kernel", "COMPLETE", "ERROR") == "COMPLETE"
    _ready(clients, "inside-ckpt", 2)
    listed = clients.cli("datasets", "files", "local/inside-ckpt")
    assert "c1.zip.bin" in listed
    assert "c2.zip.bin" in listed
    log = clients.cli("kernels", "logs", "local/inside-kernel")
    assert "IMPORTABLE" not in log
    assert "UNBUFFERED None USERTOKEN None" in log
    session_id = next(
        s["session_id"] for s in clients.kaggle.status()["sessions"] if s["kernel"].endswith("inside-kernel")
    )
    assert f"-{session_id}-webtier" in log


@pytest.mark.trains  # kagglehub is of the extra
def test_an_attached_dataset_is_mounted_and_can_be_downloaded_inside(clients: Clients) -> None:
    folder = _dataset(clients, "mounted-data", {"a.bin": b"mounted"})
    clients.cli("datasets", "create", "-p", str(folder))
    _ready(clients, "mounted-data", 1)
    source = (
        "import os, pathlib, kagglehub\n"
        "root = pathlib.Path(os.environ['KAGGLE_CACHE_MOUNT_FOLDER'])\n"
        "print('MOUNT', (root / 'datasets/local/mounted-data/a.bin').read_text())\n"
        "print('HUB', (pathlib.Path(kagglehub.dataset_download('local/mounted-data')) / 'a.bin').read_text())\n"
    )
    clients.push("mounting-kernel", source, dataset_sources=["local/mounted-data"])
    clients.wait_for("mounting-kernel", "COMPLETE", "ERROR")
    log = clients.cli("kernels", "logs", "local/mounting-kernel")
    assert "MOUNT mounted" in log
    assert "HUB mounted" in log


def test_a_refused_push_exits_zero_with_the_real_words(clients: Clients) -> None:
    clients.kaggle.set_fault("quota_used_h", 30.0)
    try:
        said = clients.push("broke-kernel", "print(1)\n", enable_gpu=True, machine_shape="NvidiaTeslaT4")
    finally:
        clients.kaggle.clear_faults()
    assert "Maximum weekly GPU quota of 30.00 hours reached." in said
    # The refused first push left an empty shell that blocks its name until it is deleted.
    assert "Notebook not found" in clients.push("broke-kernel", "print(1)\n")
    clients.cli("kernels", "delete", "local/broke-kernel", "-y")
    assert "successfully pushed" in clients.push("broke-kernel", "print(1)\n")
