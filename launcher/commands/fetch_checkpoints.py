"""`kaglaunch fetch-checkpoints`: bring checkpoints back, verified."""

from __future__ import annotations

import typer

from launcher import documents, downloads, transfers
from launcher.documents import FetchedCheckpoint
from launcher.errors import CheckpointError
from launcher.runs import checkpoints
from launcher.runs.checkpoints import Fetched
from launcher.runs.ledger import Ledger, Run
from launcher.tables import columns
from launcher.targets import target
from launcher.transfers import Transfers


def fetch_checkpoints(run_id: str | None, *, everything: bool, step: int | None, as_json: bool) -> None:
    """Fetch into the run's folder and show what came.

    Raises
    ------
    CheckpointError
        None that verifies can be had.
    """
    shown = transfers.PlainTransfers(_to_stderr) if as_json else downloads.for_terminal(typer.echo)
    run, results = fetched(run_id, everything=everything, step=step, shown=shown, require=False)
    if as_json:
        typer.echo(documents.text([document(result) for result in results]))
    elif results:
        typer.echo(table(run, results))
    _require(run, results, step)


def fetched(
    run_id: str | None, *, everything: bool, step: int | None, shown: Transfers, require: bool = True
) -> tuple[Run, list[Fetched]]:
    """The run, and what was brought into its folder.

    Raises
    ------
    CheckpointError
        None that verifies can be had, with `require`.
    """
    book = Ledger()
    run = book.run(run_id)
    backend = target.of_run(run).connect()
    results = checkpoints.fetch(run, backend, book, everything=everything, step=step, transfers=shown)
    if require:
        _require(run, results, step)
    return run, results


def _require(run: Run, results: list[Fetched], step: int | None) -> None:
    if not any(result.path for result in results):
        asked = (
            f"No checkpoint at step {step} of run {run.run_id}"
            if step is not None
            else f"No checkpoint of {run.run_id}"
        )
        next_step = (
            f"If the session still runs, its first one may come soon: `kaglaunch watch {run.run_id}`."
            if step is None
            else f"`kaglaunch fetch-checkpoints {run.run_id} --all` brings every one that there is."
        )
        raise CheckpointError(
            f"{asked} verifies: {len(results)} were found in dataset {run.dataset} and in kernel outputs.\n{next_step}"
        )


def table(run: Run, results: list[Fetched]) -> str:
    """What came, a row a checkpoint."""
    header = ["step", "version", "bytes", "verified", "metrics"]
    body = [[f"t{r.num_timesteps:,}", r.origin, f"{r.size:,}", _verdict(r), _metrics(r)] for r in results]
    lines = [f"Checkpoints of run {run.run_id}, in {run.checkpoints}:"] if results else []
    return "\n".join([*lines, *(columns(header, body) if body else [])])


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)


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
