"""Raw requests to an embedded Kaggle, and scripts for its sessions."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import httpx
import pytest

from launcher.local_kaggle.service import LocalKaggle
from tests.limits import limit_s, until

FAST = {
    "queue_s": 0.0,
    "cancel_s": 0.0,
    "log_delay_s": 0.0,
    "dataset_hidden_s": 0.0,
    "dataset_receive_s": 0.02,
    "dataset_decompress_s": 0.02,
    "dataset_copy_s": 0.02,
    "dataset_compress_s": 0.02,
    "dataset_finish_s": 0.02,
}
"""Every step stays, in its order; only the waiting is short."""

KERNELS, DATASETS = "kernels.KernelsApiService", "datasets.DatasetApiService"
SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


class Caller:
    """Raw requests to an embedded Kaggle."""

    def __init__(self, kaggle: LocalKaggle, token: str | None = None) -> None:
        self.kaggle = kaggle
        self._token = token

    def __call__(self, service: str, method: str, **body: Any) -> dict[str, Any]:
        return json.loads(self.send("POST", f"/api/v1/{service}/{method}", json.dumps(body).encode())[1] or b"{}")

    def refused(self, code: int, service: str, method: str, **body: Any) -> str:
        """The message of an answer that must have status `code`."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self(service, method, **body)
        assert caught.value.code == code
        return str(json.loads(caught.value.read())["message"])

    def send(self, verb: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """One request; status and body."""
        endpoint = self.kaggle.ensure_running(timeout_s=limit_s(20))
        address = path if path.startswith("http") else endpoint.url + path
        headers = {"Authorization": f"Bearer {self._token or endpoint.token}", **headers}
        request = urllib.request.Request(address, data=data, headers=headers, method=verb)
        with urllib.request.urlopen(request, timeout=limit_s(30)) as response:
            return response.status, response.read()

    def http(self) -> httpx.Client:
        """A client that is signed in and follows no redirect."""
        endpoint = self.kaggle.ensure_running(timeout_s=limit_s(20))
        headers = {"Authorization": f"Bearer {self._token or endpoint.token}"}
        return httpx.Client(base_url=endpoint.url, headers=headers, timeout=limit_s(30), trust_env=False)

    def push(self, slug: str, source: str = SLEEPER, **extra: Any) -> dict[str, Any]:
        """SaveKernel of a private script."""
        values = {"language": "python", "kernelType": "script", "isPrivate": True, "enableInternet": True, **extra}
        return self(KERNELS, "SaveKernel", slug=f"local/{slug}", newTitle=slug, text=source, **values)

    def state(self, slug: str) -> dict[str, Any]:
        return self(KERNELS, "GetKernelSessionStatus", userName="local", kernelSlug=slug)

    def upload(self, name: str, content: bytes) -> str:
        """The token of an uploaded blob."""
        begun = self("blobs.BlobApiService", "StartBlobUpload", type="DATASET", name=name, contentLength=len(content))
        assert self.send("PUT", begun["createUrl"], content)[0] in (200, 201)
        return str(begun["token"])

    def dataset(self, slug: str, **files: bytes) -> dict[str, Any]:
        """CreateDataset, or CreateDatasetVersion where it is there already."""
        tokens = [{"token": self.upload(name.replace("__", "."), content)} for name, content in files.items()]
        made = self(DATASETS, "CreateDataset", ownerSlug="local", slug=slug, title=slug, isPrivate=True, files=tokens)
        if made["status"] == "ok":
            return made
        assert "already in use" in made["error"]
        body = {"versionNotes": "next", "files": tokens}
        return self(DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug=slug, body=body)


def reaches(call: Caller, slug: str, status: str) -> dict[str, Any]:
    found: dict[str, Any] = until(lambda: (state := call.state(slug))["status"] == status and state)
    return found


def log_of(call: Caller, slug: str) -> str:
    return str(call(KERNELS, "ListKernelSessionOutput", userName="local", kernelSlug=slug).get("log", ""))


def pids(kaggle: LocalKaggle) -> list[int]:
    for path in kaggle.state_dir.rglob("log.jsonl"):
        for line in path.read_text().splitlines():
            data = json.loads(line)["data"]
            if data.startswith("PIDS"):
                return [int(pid) for pid in data.split()[1:]]
    return []


FAMILY = """
import os, subprocess, sys, time
open("kept.txt", "w").write("x")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
stray = subprocess.Popen([sys.executable, "-c", "import os, time; os.setsid(); time.sleep(600)"])
print("PIDS", os.getpid(), child.pid, stray.pid, flush=True)
time.sleep(600)
"""
