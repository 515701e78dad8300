"""Sources, the library of the algorithm and configuration in one self-extracting kernel script.

Kaggle uploads a single file of at most about 1 MB. The script holds an xz-compressed tar in base85, checks its
sha256 before it unpacks, and from then on only its copies of our packages can be imported. Same input, same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contract.config import Configuration, canonical_json
from kernel.contract.names import CONFIGURATION, PACKAGES_FILE
from launcher import paths
from launcher.errors import BundleError
from launcher.packing import secrets, wheels
from launcher.packing.project import Project, largest

MAX_SCRIPT_BYTES = 900_000
MAX_UNPACKED_BYTES = 200_000_000
_HELD = re.compile(rb'SHA256 = "(?P<sha256>[0-9a-f]{64})"\nPAYLOAD = """\n(?P<payload>.*?)\n"""', re.DOTALL)
PACKAGES = ("arz_model", "kernel")
_SUFFIXES = (".py", ".toml")

_SCRIPT = '''\
# kaglaunch kernel of run {run_id}, session {session}.
# It checks and unpacks what stands below, then runs kernel.session.main. Runs on Python 3.11 to 3.13.
import base64, hashlib, io, os, sys, tarfile, tempfile

SHA256 = "{sha256}"
PAYLOAD = """
{payload}
"""


def unpack():
    packed = base64.b85decode(PAYLOAD.replace("\\n", ""))
    if hashlib.sha256(packed).hexdigest() != SHA256:
        sys.exit("kaglaunch: this script was altered or cut short on its way (sha256 differs); push it again.")
    folder = os.path.realpath(tempfile.mkdtemp(prefix="kaglaunch-"))
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


if __name__ == "__main__":
    folder = unpack()
    sys.path.insert(0, folder)
    os.environ["KAGLAUNCH_BUNDLE"] = folder
    from kernel.isolation import isolate

    isolate(folder)
    from kernel.__main__ import main

    sys.exit(main(["--config", os.path.join(folder, "{configuration}")]))
'''


@dataclass(frozen=True)
class Bundle:
    """A kernel script and what went into it."""

    script: bytes
    members: Mapping[str, bytes] = field(repr=False)
    """Content of each member by its name."""
    project: tuple[str, ...] = ()
    """Names of those that are the researcher's own."""

    @property
    def files(self) -> dict[str, int]:
        """Size [bytes] of each member before compression, by its name."""
        return {name: len(content) for name, content in self.members.items()}

    def unpack(self, folder: Path) -> None:
        """Write the members below `folder`, as the script does in its session."""
        for name, content in self.members.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @property
    def configuration(self) -> Configuration:
        """What it trains, as its session will read it; raises ConfigurationError where another version wrote it."""
        return Configuration.from_json(self.members[CONFIGURATION].decode("utf-8"))

    @property
    def code_digest(self) -> str:
        """sha256 over names and contents of all members but the configuration: equal digests run equal code."""
        members = self.members.items()
        listed = {name: hashlib.sha256(content).hexdigest() for name, content in members if name != CONFIGURATION}
        return hashlib.sha256(canonical_json(listed).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """sha256 of the script."""
        return hashlib.sha256(self.script).hexdigest()


class Unreadable(ValueError):
    """Raised when a script is none that `build` made, or was altered since."""


def opened(script: bytes) -> Bundle:
    """The bundle that `script` holds; nothing of it is run, and nothing is written.

    Raises
    ------
    Unreadable
        It is no script of ours, or not whole.
    """
    match = _HELD.search(script)
    if match is None:
        raise Unreadable("its script is no bundle of kaglaunch")
    members: dict[str, bytes] = {}
    try:
        packed = base64.b85decode(match["payload"].replace(b"\n", b""))
        if hashlib.sha256(packed).hexdigest().encode() != match["sha256"]:
            raise Unreadable("its script was altered or cut short (sha256 differs)")
        plain = lzma.LZMADecompressor().decompress(packed, MAX_UNPACKED_BYTES)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                if content is not None:
                    members[info.name] = content.read()
    except (ValueError, lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise Unreadable(f"its script cannot be unpacked ({error})") from error
    if CONFIGURATION not in members:
        raise Unreadable("its script holds no configuration")
    ours = (*PACKAGES, *wheels.LIBRARIES, CONFIGURATION, PACKAGES_FILE)
    own = tuple(sorted(name for name in members if not name.startswith(ours)))
    return Bundle(script, members, own)


def kernel_script(config: Configuration, *, cache: Path | None = None, own_secrets: Iterable[str] = ()) -> bytes:
    """The script that runs session `config.session` of `config.run`; see `build`."""
    return build(config, cache=cache, own_secrets=own_secrets).script


def build(
    config: Configuration,
    project: Project | None = None,
    *,
    cache: Path | None = None,
    own_secrets: Iterable[str] = (),
) -> Bundle:
    """Pack our sources, the wheels of the algorithm, `project` and `config` into one script of MAX_SCRIPT_BYTES.

    Raises
    ------
    SecretFound
        A member holds anything like a credential, or one of `own_secrets`.
    BundleError
        The script would be too large, or a wheel cannot be had.
    """
    own = project or Project()
    members = {**own.files, **sources()}
    if own.modules:
        members[PACKAGES_FILE] = json.dumps(own.modules).encode()
    members[CONFIGURATION] = config.to_json().encode()
    secrets.refuse(members, own_secrets)
    for wheel in wheels.needed(config.run.algorithm):
        members = {**_unpacked(wheels.fetch(wheel, cache or paths.cache_dir())), **members}
    script = _script(config, members)
    if len(script) > MAX_SCRIPT_BYTES:
        raise BundleError(
            f"The kernel script would have {len(script):,} bytes; Kaggle takes {MAX_SCRIPT_BYTES:,}.\n"
            f"{largest({name: len(content) for name, content in members.items()})}\n"
            "Leave out what the training does not import (.kaglaunchignore), or attach large data as a dataset."
        )
    return Bundle(script, dict(sorted(members.items())), tuple(sorted(own.files)))


def sources() -> dict[str, bytes]:
    """Our packages as they lie on this machine: name in the bundle -> content."""
    root = Path(__file__).resolve().parents[2]
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def _script(config: Configuration, members: Mapping[str, bytes]) -> bytes:
    packed = _packed(tuple(sorted(members.items())))
    text = base64.b85encode(packed).decode("ascii")
    return _SCRIPT.format(
        run_id=config.run.run_id,
        session=config.session.session,
        sha256=hashlib.sha256(packed).hexdigest(),
        payload="\n".join(text[at : at + 118] for at in range(0, len(text), 118)),
        configuration=CONFIGURATION,
    ).encode("ascii")


@functools.lru_cache(maxsize=1)
def _packed(members: tuple[tuple[str, bytes], ...]) -> bytes:
    """xz of a tar whose every header is a function of name and content alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return lzma.compress(buffer.getvalue(), preset=9)


def _unpacked(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}
