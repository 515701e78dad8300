"""The kernel script: small, the same for the same input, whole or refused, and free of secrets."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from launcher.errors import BundleError, SecretFound
from launcher.packing import bundle, secrets

CONFIG = Configuration(RunConfig("quick-abcdef", 100, 10), SessionConfig())


def test_same_input_gives_the_same_bytes() -> None:
    first = bundle.kernel_script(CONFIG)
    bundle._packed.cache_clear()
    assert bundle.kernel_script(CONFIG) == first


def test_another_configuration_gives_other_bytes() -> None:
    other = Configuration(RunConfig("quick-abcdef", 100, 10, seed=1), SessionConfig())
    assert bundle.kernel_script(other) != bundle.kernel_script(CONFIG)


def test_script_is_far_below_the_platforms_limit() -> None:
    assert len(bundle.kernel_script(CONFIG)) < bundle.MAX_SCRIPT_BYTES


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_every_source_parses_on(minor: int) -> None:
    sources = {"script.py": bundle.kernel_script(CONFIG), **bundle.sources()}
    parsed = {
        name: ast.parse(sources[name], name, feature_version=(3, minor)) for name in sources if name[-3:] == ".py"
    }
    assert {"script.py", "kernel/session/main.py", "arz_model/solver.py"} <= set(parsed)
    assert parsed["script.py"].body


def test_too_large_a_bundle_is_refused_and_names_the_largest_member(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bundle.sources()
    monkeypatch.setattr(bundle, "sources", lambda: {**found, "kernel/ballast.py": os.urandom(1_000_000).hex().encode()})
    with pytest.raises(BundleError, match=r"kernel/ballast\.py"):
        bundle.build(CONFIG)


def test_an_altered_script_refuses_to_run(tmp_path: Path) -> None:
    script = bundle.kernel_script(CONFIG)
    at = script.index(b'PAYLOAD = """\n') + 5_000
    swapped = b"0" if script[at : at + 1] != b"0" else b"1"
    (tmp_path / "script.py").write_bytes(script[:at] + swapped + script[at + 1 :])
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "sha256 differs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("kernel/.env", b"A=1", 0),
        ("kernel/kaggle.json", b"{}", 0),
        ("kernel/a.py", b"import os\n\nTOKEN = 'KGAT_0123456789abcdef0123456789'\n", 3),
        ("kernel/a.py", b'creds = {"username": "alice", "key": "0123456789abcdef0123456789abcdef"}\n', 1),
        ("kernel/a.py", b"x = 1\naws = 'AKIAIOSFODNN7EXAMPLE'\n", 2),
        ("kernel/a.py", b"-----BEGIN RSA PRIVATE KEY-----\n", 1),
    ],
)
def test_a_planted_secret_is_refused_by_file_and_line_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, line: int
) -> None:
    found = bundle.sources()
    monkeypatch.setattr(bundle, "sources", lambda: {**found, name: content})
    with pytest.raises(SecretFound) as caught:
        bundle.build(CONFIG)
    assert f"{name}:{line}" in str(caught.value) if line else name in str(caught.value)
    assert "0123456789" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_own_credentials_are_found_wherever_they_stand() -> None:
    files = {"a.bin": b"\0\1\2" + b"my-own-plain-token" + b"\0"}
    assert not secrets.scan(files)
    assert [finding.file for finding in secrets.scan(files, ["my-own-plain-token"])] == ["a.bin"]


def test_our_own_sources_hold_nothing_like_a_secret() -> None:
    assert secrets.scan(bundle.sources()) == []
