"""Kernels and their versions: what a push may do, and what it starts."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from launcher.local_kaggle import errors, quota
from launcher.local_kaggle.datasets import Datasets
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.sessions import Sessions
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

LEAST_NAME, MOST_NAME = 5, 50
DEFAULT_GPU, DEFAULT_TPU, NO_ACCELERATOR = "NvidiaTeslaT4", "TpuV5E8", "None"
FREE_SHAPES = {DEFAULT_GPU: "gpu", DEFAULT_TPU: "tpu", NO_ACCELERATOR: "cpu", "": "cpu"}
RETIRED_SHAPES = {
    "NvidiaTeslaP100": DEFAULT_GPU,
    "TpuV38": DEFAULT_TPU,
    "Tpu1VmV38": DEFAULT_TPU,
    "TpuV232": NO_ACCELERATOR,
    "TpuV2256": NO_ACCELERATOR,
}
"""Shapes that Kaggle no longer has and silently replaces."""


class Refused(Exception):
    """A refusal that Kaggle sends as HTTP 200 with the reason in `error`."""


@dataclass(frozen=True)
class Push:
    """What one SaveKernel asks for, defaults filled in. `request` is the body as it came."""

    owner: str
    slug: str
    title: str
    source: str
    machine: str
    shape: str
    timeout_s: float | None
    internet: bool
    datasets: list[str]
    quick_save: bool
    request: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    kernel: Row
    version: int
    invalid_datasets: list[str]


def slugify(title: str) -> str:
    """What Kaggle makes of a title: ASCII letters, digits and single dashes."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")


def shape_and_machine(request: dict[str, Any]) -> tuple[str, str]:
    """(shape, "gpu" | "tpu" | "cpu") of a push. Raises Refused for a shape that this account cannot have."""
    asked = request.get("machineShape")
    if not asked:
        asked = DEFAULT_GPU if request.get("enableGpu") else DEFAULT_TPU if request.get("enableTpu") else NO_ACCELERATOR
    shape = RETIRED_SHAPES.get(asked, asked)
    if shape not in FREE_SHAPES:
        raise Refused(errors.SHAPE_NOT_ALLOWED.format(shape=asked))
    return shape, FREE_SHAPES[shape]


class Kernels:
    def __init__(self, store: Store, clock: Clock, faults: Faults, datasets: Datasets, sessions: Sessions) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._datasets = datasets
        self.sessions = sessions

    def find(self, owner: str, slug: str) -> Row | None:
        return self._store.row("SELECT * FROM kernels WHERE owner = ? AND slug = ?", owner, slug)

    def by_id(self, kernel_id: int) -> Row | None:
        return self._store.row("SELECT * FROM kernels WHERE id = ?", kernel_id)

    def of_owner(self, owner: str) -> list[Row]:
        """Newest first."""
        return self._store.rows("SELECT * FROM kernels WHERE owner = ? ORDER BY created_at DESC, id DESC", owner)

    def version(self, kernel: Row, number: int | None = None) -> Row | None:
        """The version `number` (default: the latest) of a kernel; None if there is none."""
        sql = "SELECT * FROM kernel_versions WHERE kernel_id = ? AND number = ?"
        return self._store.row(sql, kernel["id"], number or kernel["current_version"])

    def save(self, push: Push) -> Saved:
        """Carry out a push: a new version, and the session that runs it.

        Raises Refused. A first push refused for quota or session count leaves the kernel behind without a version:
        an empty shell, on which every later push is refused until it is deleted.
        """
        with self._store.transaction():
            kernel = self._kernel_for(push)
            try:
                if kernel is not None and kernel["current_version"] == 0:
                    raise Refused(errors.NOTEBOOK_NOT_FOUND)
                if not push.quick_save:
                    self._check_limits(push.machine)
            except Refused as refusal:
                if kernel is None:
                    self._new_kernel(push)
                outcome: Refused | None = refusal
            else:
                outcome = None
                saved = self._new_version(kernel or self._new_kernel(push), push)
        if outcome is not None:
            raise outcome
        return saved

    def delete(self, kernel: Row) -> None:
        """Remove a kernel; its running sessions are killed at once. The quota they used stays used."""
        rows = self._store.rows("SELECT id FROM sessions WHERE kernel_id = ? AND deleted = 0", kernel["id"])
        with self._store.transaction():
            self._store.execute("DELETE FROM kernels WHERE id = ?", kernel["id"])
            self._store.execute("UPDATE sessions SET deleted = 1 WHERE kernel_id = ?", kernel["id"])
        for row in rows:
            self.sessions.end_now(row["id"], "deleted")
            self.sessions.forget_outputs(row["id"])

    def _kernel_for(self, push: Push) -> Row | None:
        """The kernel a push goes to, re-slugged if its title asks for it; None if it is to be created.

        Raises Refused for a name under which Kaggle creates none.
        """
        kernel = self.find(push.owner, push.slug)
        if kernel is None and push.request.get("id"):
            kernel = self.by_id(int(push.request["id"]))
            if kernel is None or kernel["owner"] != push.owner:
                raise Refused(errors.NOTEBOOK_NOT_FOUND)
        slug = slugify(push.title)
        if kernel is None:
            if slug != push.slug or not push.title.isascii() or push.slug[:1].isdigit():
                raise Refused(errors.NOTEBOOK_NOT_FOUND)
            if not LEAST_NAME <= len(push.title) <= MOST_NAME:
                raise Refused(errors.TOO_SHORT_TITLE.format(least=LEAST_NAME, most=MOST_NAME))
            return None
        if kernel["current_version"] and slug != kernel["slug"] and self.find(push.owner, slug) is None:
            sql = "UPDATE kernels SET slug = ?, title = ? WHERE id = ?"
            self._store.execute(sql, slug, push.title, kernel["id"])
        return self.by_id(kernel["id"])

    def _check_limits(self, machine: str) -> None:
        settings, kind = self._store.settings, machine.upper()
        if machine in quota.ACCELERATORS:
            preset = self._faults.peek("quota_used_h")
            usage = quota.usage(self._store, machine, self._clock.now(), preset)
            if usage.exhausted:
                raise Refused(errors.WEEKLY_QUOTA_REACHED.format(kind=kind, hours=usage.total_s / 3600))
        allowed = getattr(settings, f"{machine}_sessions")
        if quota.active_count(self._store, machine) >= allowed:
            raise Refused(errors.SESSION_COUNT_REACHED.format(kind=kind, count=allowed))

    def _new_kernel(self, push: Push) -> Row:
        kernel_id = self._store.new_id("kernel")
        self._store.insert(
            "kernels",
            **{"id": kernel_id, "owner": push.owner, "slug": push.slug, "title": push.title},
            **{"created_at": self._clock.now()},
        )
        return self._store.rows("SELECT * FROM kernels WHERE id = ?", kernel_id)[0]

    def _new_version(self, kernel: Row, push: Push) -> Saved:
        number, settings = kernel["current_version"] + 1, self._store.settings
        valid = [ref for ref in push.datasets if self._datasets.ready_version(*_owner_and_slug(ref)) is not None]
        session_id = None
        if not push.quick_save:
            longest = settings.tpu_session_limit_s if push.machine == "tpu" else settings.session_limit_s
            session_id = self.sessions.submit(
                kernel_id=kernel["id"],
                owner=kernel["owner"],
                slug=kernel["slug"],
                version=number,
                source=push.source,
                machine=push.machine,
                shape=push.shape,
                limit_s=min(push.timeout_s or longest, longest),
                internet=push.internet,
                datasets=valid,
            )
        self._store.insert(
            "kernel_versions",
            **{"kernel_id": kernel["id"], "number": number, "request": json.dumps(push.request)},
            **{"created_at": self._clock.now(), "session_id": session_id},
        )
        self._store.execute("UPDATE kernels SET current_version = ? WHERE id = ?", number, kernel["id"])
        invalid = [ref for ref in push.datasets if ref not in valid]
        return Saved(self._store.rows("SELECT * FROM kernels WHERE id = ?", kernel["id"])[0], number, invalid)


def _owner_and_slug(ref: str) -> tuple[str, str]:
    owner, _, slug = ref.partition("/")
    return owner, slug
