"""`/local/...`: what the embedded Kaggle has and the real one has not. For the account only."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from kernel.contract import typed
from launcher.documents.local_kaggle import (
    LocalClock,
    LocalDataset,
    LocalQuota,
    LocalSession,
    LocalVersion,
    RunningLocalKaggle,
)
from launcher.local_kaggle import errors, quota
from launcher.local_kaggle.installation import USERNAME, Installation
from launcher.local_kaggle.settings import REALISTIC
from launcher.local_kaggle.wire import timestamp

Json = dict[str, Any]


def status(kaggle: Installation, request: Json) -> Json:
    """Everything a person wants to see at a glance."""
    now = kaggle.clock.now()
    running = RunningLocalKaggle(
        running=True,
        url=kaggle.url,
        pid=os.getpid(),
        username=USERNAME,
        state_dir=str(kaggle.layout.state_dir),
        clock=LocalClock(now=timestamp(now), offset_s=kaggle.clock.offset_s),
        quota={machine: _quota(kaggle, machine, now) for machine in quota.ACCELERATORS},
        sessions=tuple(
            LocalSession(
                kernel=f"{row['owner']}/{row['slug']}",
                version=row["version"],
                session_id=row["id"],
                machine=row["machine"],
                state=row["state"],
                limit_s=row["limit_s"],
                running_s=(row["ended_at"] or now) - row["started_at"] if row["started_at"] else 0.0,
                failure_message=row["failure_message"],
            )
            for row in kaggle.store.rows("SELECT * FROM sessions WHERE deleted = 0 ORDER BY id")
        ),
        datasets=tuple(
            LocalDataset(dataset=f"{row['owner']}/{row['slug']}", versions=_versions(kaggle, row["id"]))
            for row in kaggle.datasets.of_owner(USERNAME)
        ),
        faults={name: tuple(rules) for name, rules in kaggle.faults.listing().items()},
        settings=asdict(kaggle.store.settings),
    )
    answer: Json = typed.plain(running)
    return answer


def _versions(kaggle: Installation, dataset_id: int) -> tuple[LocalVersion, ...]:
    rows = kaggle.datasets.versions(dataset_id)
    return tuple(LocalVersion(number=row["number"], state=row["state"], failure=row["failure"]) for row in rows)


def _quota(kaggle: Installation, machine: str, now: float) -> LocalQuota:
    usage = quota.usage(kaggle.store, machine, now, kaggle.faults.peek("quota_used_h"))
    return LocalQuota(
        used_h=usage.used_s / 3600,
        reserved_h=usage.reserved_s / 3600,
        total_h=usage.total_s / 3600,
        refresh_at=timestamp(quota.next_refresh(now)),
    )


def set_fault(kaggle: Installation, request: Json) -> Json:
    kaggle.faults.set(str(request.get("name")), request.get("value"), kaggle.clock.now())
    return kaggle.faults.listing()


def clear_faults(kaggle: Installation, request: Json) -> Json:
    kaggle.faults.clear(request.get("name"))
    return kaggle.faults.listing()


def list_faults(kaggle: Installation, request: Json) -> Json:
    return kaggle.faults.listing()


def advance_clock(kaggle: Installation, request: Json) -> Json:
    kaggle.advance_clock(float(request["seconds"]))
    return {"now": timestamp(kaggle.clock.now()), "offset_s": kaggle.clock.offset_s}


def change_settings(kaggle: Installation, request: Json) -> Json:
    """Set some settings by name; `{"preset": "realistic"}` first sets the delays seen on the real service."""
    values = dict(request)
    preset = values.pop("preset", None)
    if preset not in (None, "realistic"):
        raise ValueError(f"unknown preset {preset!r}; there is 'realistic'")
    return asdict(kaggle.store.change_settings({**(REALISTIC if preset else {}), **values}))


def stop_sessions(kaggle: Installation, request: Json) -> Json:
    """Kill what runs, before the server ends; how many sessions that were."""
    active = kaggle.sessions.active()
    kaggle.sessions.stop_all()
    return {"stopped": len(active)}


METHODS = {
    "status": status,
    "fault": set_fault,
    "clear-faults": clear_faults,
    "faults": list_faults,
    "clock": advance_clock,
    "settings": change_settings,
    "stop": stop_sessions,
}


def call(kaggle: Installation, method: str, request: Json) -> Json:
    """Carry out one administrative call. Raises RpcError: 404 for an unknown one, 400 with what was wrong."""
    if method not in METHODS:
        raise errors.not_found(f"unknown call {method!r}; there are: {', '.join(METHODS)}")
    try:
        return METHODS[method](kaggle, request)
    except (ValueError, KeyError, TypeError) as error:
        raise errors.bad_request(str(error)) from error
