"""Names that both sides know: runs, kernels, datasets, notes of versions, files.

Standard library only.
"""

from __future__ import annotations

import os
import re

_RUN = r"[a-z][a-z0-9-]{3,38}[a-z0-9]"
NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""`module:name` of something in the user's files or a library, or `torch.nn.ELU`."""
RUN_ID = re.compile(_RUN)
"""Lower-case letters, digits and `-`, 5 to 40 characters, a letter first: fit for every slug that is made of it."""
_KERNEL = re.compile(rf"({_RUN})-s([1-9]\d{{0,4}})")
_DATASET = re.compile(rf"({_RUN})-ckpt")
_REPLAY = "-replay"
_MOST_SLUG = 50
_NOTE = re.compile(r"\bt=(\d+) session=(\d+)\b")
_CHECKPOINT = re.compile(r"checkpoint_t(\d+)\.zip(?:\.bin)?")
_WEIGHTS = re.compile(r"checkpoint_t(\d+)\.weights\.zip")

TRAFFIC = "arz_model:TrafficSignal-v0"
"""The environment that travels with every bundle."""

CONFIGURATION = "run.json"
"""In a bundle and a session's folder: what the session was told."""
PACKAGES_FILE = "packages.json"
"""In a bundle: the modules of the researcher's own, imported from the bundle and from nowhere else, as ours are."""
CHECKPOINTS = "checkpoints"
"""Folder of a session's, and a run's, checkpoints."""
METRICS = "metrics.jsonl"
"""A row a `checkpoint_freq`, from timestep 0 on."""
RESULT = "result.json"
"""How a session ended."""
PUBLISHED = "published.json"
"""What the parent tells the trainer of its publishes."""
EXACTNESS = "exactness.json"
"""What the parent tells the trainer of its proofs."""
TRAINER_LOG = "trainer.log"
"""Everything that the trainer printed; older pieces are `trainer.log.1.gz` and so on."""
RUN = "run.json"
"""In a dataset version: the run's configuration and the session that wrote it."""
INDEX = "index.json"
"""In a dataset version: its checkpoints, and the digests of earlier ones."""
DIGESTS = "digests.jsonl"
"""Beside checkpoints: the state digest of every one that was ever written."""
PUBLISHED_SUFFIX = ".bin"
"""Kaggle unpacks `.zip`; a checkpoint travels as `checkpoint_t500.zip.bin`."""


def kernel_slug(run_id: str, session: int) -> str:
    """The kernel of one session; never pushed twice."""
    return f"{run_id}-s{session}"


def session_of_kernel(slug: str) -> tuple[str, int] | None:
    """Run and session of a kernel's slug; None for a name that is none of ours."""
    found = _KERNEL.fullmatch(slug)
    return (found[1], int(found[2])) if found else None


def dataset_slug(run_id: str) -> str:
    """The dataset that takes a run's checkpoints."""
    return f"{run_id}-ckpt"


def replay_dataset(dataset: str) -> str:
    """`owner/slug` of the dataset that takes the sealed replay chunks of a run with the dataset `owner/slug`."""
    owner, _, slug = dataset.partition("/")
    return f"{owner}/{slug.removesuffix('-ckpt')[: _MOST_SLUG - len(_REPLAY)]}{_REPLAY}"


def run_of_dataset(slug: str) -> str | None:
    """The run of a dataset's slug; None for a name that is none of ours."""
    found = _DATASET.fullmatch(slug)
    return found[1] if found else None


def version_note(num_timesteps: int, session: int) -> str:
    """The note of a dataset version: its newest checkpoint, and the session that wrote it."""
    return f"t={num_timesteps} session={session}"


def told_by_version(note: str) -> tuple[int, int] | None:
    """Timestep and session that the note of a version tells; None for any other text."""
    found = _NOTE.search(note)
    return (int(found[1]), int(found[2])) if found else None


def holds_checkpoint(note: str) -> bool:
    """Whether the note is of a version with a checkpoint: the one that only proves the write tells timestep 0."""
    told = told_by_version(note)
    return told is not None and told[0] > 0


def checkpoint_name(num_timesteps: int) -> str:
    """File name of the checkpoint at `num_timesteps`."""
    return f"checkpoint_t{num_timesteps}.zip"


def weights_name(num_timesteps: int) -> str:
    """Its file name once its replay buffer is kept no more: everything else is in it, and no run goes on from it."""
    return f"checkpoint_t{num_timesteps}.weights.zip"


def manifest_name(num_timesteps: int) -> str:
    """File of its manifest in a dataset version."""
    return f"checkpoint_t{num_timesteps}.manifest.json"


def num_timesteps_of(name: str) -> int | None:
    """The timestep in a checkpoint's file name (published suffix allowed), or None for another file."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def weights_timesteps_of(name: str) -> int | None:
    """The timestep in the file name of a checkpoint without its replay buffer, or None for another file."""
    match = _WEIGHTS.fullmatch(name)
    return int(match[1]) if match else None


def session_id(container_name: str | None = None) -> int | None:
    """The number that cancels this session, from `kaggle_<token>-<id>-webtier`; None where it is not told."""
    name = os.environ.get("KAGGLE_CONTAINER_NAME", "") if container_name is None else container_name
    parts = name.split("-")
    return int(parts[-2]) if len(parts) >= 3 and parts[-2].isascii() and parts[-2].isdigit() else None
