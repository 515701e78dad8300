"""Delays and limits of the embedded Kaggle: small by default, settable to what was seen on the real one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

GIB = 1024**3


@dataclass(frozen=True)
class Settings:
    """Every number that decides how the service behaves. Units are in the names: _s seconds, _h hours."""

    queue_s: float = 0.5
    """From push to RUNNING (13-19 s were seen for a T4 x2)."""
    cancel_s: float = 0.2
    """From CANCEL_REQUESTED to CANCEL_ACKNOWLEDGED."""
    log_delay_s: float = 0.3
    """From the end of a session to its log being listed."""
    dataset_hidden_s: float = 0.2
    """How long a dataset that was just created still answers 403."""
    dataset_receive_s: float = 0.1
    dataset_decompress_s: float = 0.3
    dataset_copy_s: float = 0.3
    dataset_compress_s: float = 0.2
    dataset_finish_s: float = 0.1
    """The five steps of a dataset version; together some 5 s were seen for a small one."""
    heartbeat_s: float = 15.0
    """Between comment lines on a log stream that has nothing to say."""

    gpu_quota_h: float = 30.0
    tpu_quota_h: float = 20.0
    """Accelerator hours a week; the week begins on Saturday 00:00 UTC."""
    gpu_sessions: int = 2
    cpu_sessions: int = 5
    tpu_sessions: int = 1
    """Batch sessions at once."""
    session_limit_s: float = 43_200.0
    tpu_session_limit_s: float = 32_400.0
    """Longest session, whatever the push asked for."""
    source_limit_bytes: int = 1_000_000
    working_limit_bytes: int = 20 * GIB
    """Largest saved output; above it the session ends in ERROR and the outputs are lost."""
    unpacked_limit_bytes: int = 20 * GIB
    unpacked_limit_files: int = 100_000
    """What the archives of one dataset version may unpack to; above it the version is FAILED."""
    upload_expiry_s: float = 7 * 86_400.0

    flat_inputs: bool = False
    """Attach datasets at /kaggle/input/<slug> instead of /kaggle/input/datasets/<owner>/<slug>."""
    zip_files_over_bytes: int = 0
    """Serve single dataset files above this size as `<name>.zip`, as Kaggle does with large ones; 0: never."""
    session_env: dict[str, str] = field(default_factory=dict)
    """Variables added to the environment of every session."""
    seed: int = 0
    """Decides every id, together with how many were given out before."""

    def changed(self, values: dict[str, Any]) -> Settings:
        """A copy with `values` set. Raises ValueError for a name or a type that is not ours."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"unknown setting {name!r}; the settings are: {', '.join(sorted(known))}")
            wanted = type(known[name])
            fits = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
            if not fits or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"setting {name!r} takes a {wanted.__name__}, got {value!r}")
        return replace(self, **values)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


REALISTIC: dict[str, float] = {
    "queue_s": 15.0,
    "cancel_s": 5.0,
    "log_delay_s": 20.0,
    "dataset_hidden_s": 3.0,
    "dataset_receive_s": 1.0,
    "dataset_decompress_s": 1.0,
    "dataset_copy_s": 1.0,
    "dataset_compress_s": 1.0,
    "dataset_finish_s": 1.0,
}
"""The delays seen on the real service (see docs/embedded-kaggle.md)."""
