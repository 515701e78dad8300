"""`kaglaunch fetch-checkpoints`: bring checkpoints back, verified."""

from __future__ import annotations

import typer

from launcher import downloads, transfers
from launcher.commands.say import say
from launcher.documents import printed
from launcher.documents.runs import FetchedCheckpoint
from launcher.runs.checkpoints import Fetched
from launcher.runs.records import Run
from launcher.runs.run import RunHandle
from launcher.tables import columns
from launcher.waiting import waiting


def fetch_checkpoints(run_id: str | None, *, everything: bool, step: int | None, as_json: bool) -> None:
    """Fetch into the run's folder and show what came.

    Raises
    ------
    CheckpointError
        None that verifies can be had.
    """
    shown = transfers.PlainTransfers(_to_stderr) if as_json else downloads.for_terminal(say)
    handle = RunHandle.of(run_id, shown)
    with waiting(f"Asking {handle.target.place} for the checkpoints of run {handle.run_id}"):
        handle.connect()
    with downloads.between_files(handle, f"Looking for the checkpoints of run {handle.run_id}"):
        results = handle.fetch(everything=everything, step=step)
    if as_json:
        typer.echo(printed.text([document(result) for result in results]))
    elif results:
        typer.echo(table(handle.run, results))
    handle.require_fetched(results, step)


def table(run: Run, results: list[Fetched]) -> str:
    """What came, a row a checkpoint."""
    header = ["step", "version", "bytes", "verified", "metrics"]
    body = [[f"t{r.num_timesteps:,}", r.origin, f"{r.size:,}", _verdict(r), _metrics(r)] for r in results]
    lines = [f"Checkpoints of run {run.run_id}, in {run.checkpoints}:"] if results else []
    return "\n".join([*lines, *(columns(header, body) if body else [])])


def _to_stderr(text: str) -> None:
    say(text, err=True)


def _verdict(result: Fetched) -> str:
    if result.path is None:
        return "no, " + result.verdict.split(":")[0]
    return "verified" if result.verdict == "verified" else f"verified, {result.verdict}"


def _metrics(result: Fetched) -> str:
    metrics = result.manifest.metrics if result.manifest else {}
    shown = {key.rsplit("/", 1)[-1]: value for key, value in metrics.items() if isinstance(value, (int, float))}
    wanted = [key for key in ("reward", "ep_rew_mean", "queue", "loss") if key in shown]
    return ", ".join(f"{key} {shown[key]:.4g}" for key in wanted)


def document(result: Fetched) -> FetchedCheckpoint:
    """What `fetch-checkpoints --json` has of one checkpoint."""
    return FetchedCheckpoint(
        num_timesteps=result.num_timesteps,
        origin=result.origin,
        path=str(result.path) if result.path else None,
        size=result.size,
        verdict=result.verdict,
        metrics=dict(result.manifest.metrics) if result.manifest else {},
    )
