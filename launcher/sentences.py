"""The events of a session as sentences: docs/events.md has what each holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernel.contract import events
from kernel.contract.checks import Verdict
from kernel.contract.config import unlimited
from kernel.contract.events import Event
from kernel.contract.exactness import Exactness, Standing
from launcher.tables import duration

SMALL_BYTES = 50_000
"""What a size is not worth telling of."""


def sentence(event: Event) -> str:
    """What `event` says, in one sentence; a figure that it does not tell is left out of it or is a `?`."""
    match event:
        case events.Session():
            return (
                f"Session {event.session or '?'} of run {event.run_id or '?'} begins: "
                f"{_number(event.total_timesteps)} timesteps, device {event.device or '?'}, "
                f"{_limit(event.max_seconds)}."
            )
        case events.WriteProved():
            return "The dataset takes versions: checkpoints have a way out."
        case events.WriteFailed():
            return f"No dataset version could be created{_why(event.reason)}"
        case events.Phase():
            return f"Next: {event.detail or event.phase or '?'}."
        case events.Gate():
            bad = [f"{one.verdict} {one.name}" for one in event.checks if one.verdict is not Verdict.PASS]
            return f"The trial before the training: {', '.join(bad) or f'all {len(event.checks)} checks pass'}."
        case events.Training():
            start = f"from {_at(event.num_timesteps)}" if event.num_timesteps else "from scratch"
            return (
                f"Training begins {start} of {_number(event.total_timesteps)}: {event.algorithm or '?'} on "
                f"{event.device or '?'}."
            )
        case events.Calibration():
            fits = {None: "", True: " and fits into this session", False: " and does not fit into this session"}
            return (
                f"Measured {_number(event.steps_per_s)} timesteps/s: the rest takes {_seconds(event.seconds_needed)}"
                f"{fits[event.fits]}."
            )
        case events.Progress():
            return _progress(event)
        case events.Evaluation():
            return (
                f"Evaluated at {_at(event.num_timesteps)}: return {_number(event.mean_reward)} ± "
                f"{_number(event.std_reward)}, {_number(event.mean_ep_length)} steps an episode."
            )
        case events.Checkpoint():
            return f"Checkpoint at {_at(event.num_timesteps)}{_size(event.bytes)}, on the session's disk."
        case events.Published():
            version = f" as version {event.version}" if event.version is not None else ""
            return (
                f"Published {_at(event.num_timesteps)}{version}{_size(event.bytes)}, in {_seconds(event.seconds)}: "
                "it is safe."
            )
        case events.Result():
            return (
                f"The session ended, {event.status or '?'}: {_at(event.num_timesteps)} of "
                f"{_number(event.total_timesteps)}, {_number(event.published_timesteps)} published"
                f"{_why(event.message)}"
            )
    return _trouble(event)


def _trouble(event: Event) -> str:
    """What did not go as it should, and what this version cannot read."""
    match event:
        case events.CheckpointFailed():
            often = f", the {event.in_a_row}th in a row" if (event.in_a_row or 0) > 3 else ""
            return f"The checkpoint at {_at(event.num_timesteps)} could not be written{often}{_why(event.reason)}"
        case events.CheckpointRefused():
            return f"The checkpoint {event.file} did not verify{_why(event.reason)}"
        case events.Cadence():
            return (
                f"Checkpoints come every {_seconds(event.seconds_between)} from {_at(event.num_timesteps)} on"
                f"{_why(event.reason)}"
            )
        case events.PublishSlow():
            before = f"; the longest one before took {_seconds(event.usual_seconds)}" if event.usual_seconds else ""
            takes = f"Publishing {_at(event.num_timesteps)} takes {_seconds(event.seconds)} so far{before}"
            return f"{takes}{_why(event.waits_for)}"
        case events.PublishLost():
            now = "nothing" if event.published_timesteps is None else _at(event.published_timesteps)
            return f"What was published, {_at(event.num_timesteps)}, is gone; {now} is left{_why(event.reason)}"
        case events.AtRisk():
            return f"Far more is at risk than was asked for: {risk(event)}"
        case events.PublishFailed():
            return f"Publishing {_at(event.num_timesteps)} failed{_why(event.reason)}"
        case events.Flood():
            sample = f" One of them: {event.sample.strip()}." if event.sample.strip() else ""
            return f"A flood of {_number(event.lines_per_s)} log lines/s, {event.action}{_why(event.reason)}{sample}"
        case events.Health():
            return f"Health, {event.rule.replace('_', ' ') or '?'}{_why(event.message)}"
        case events.Inexact():
            return (
                f"From {_at(event.num_timesteps)} on the training is not bit-identical to an uninterrupted one"
                f"{_why(event.reason)}"
            )
        case events.Proved():
            return (
                f"Proved exact up to {_at(event.num_timesteps)}: a second process went there from "
                f"{_at(event.from_timesteps)} and came to the same state, bit for bit, in {_seconds(event.seconds)}."
            )
        case events.Unproved():
            return f"Whether a resume is exact was not proved{_why(event.reason)}"
        case events.Restart():
            otherwise = f", {event.otherwise}" if event.otherwise else ""
            return f"The trainer starts again from {_at(event.from_timesteps)}{otherwise}{_why(event.reason)}"
        case events.Deadline():
            return f"The session limit is near, {_seconds(event.seconds_left)} left: the last checkpoint, then the end."
        case events.Unknown():
            return f"{_words(event.kind).capitalize()}{_fields(event.extra)}."
        case events.Malformed():
            return f"{_words(event.kind).capitalize()}, which cannot be read{_why(event.problem)}"
    raise TypeError(f"no sentence for {type(event).__name__}")


def exactness_sentence(known: Exactness) -> str:
    """What is known of a run's exactness."""
    proved = f"Proved exact up to {_at(known.proved_to)}." if known.proved_to is not None else ""
    match known.standing:
        case Standing.inexact:
            since = f"From {_at(known.inexact_since)} on it is not bit-identical to an uninterrupted run"
            return f"{proved} {since}{_why(known.reason)}".strip()
        case Standing.proved:
            return proved
    return f"Not proved exact yet{_why(known.reason)}"


def exactness_words(known: Exactness) -> str:
    """The same in a few words, the reason last."""
    proved = f"proved to {_at(known.proved_to)}" if known.proved_to is not None else ""
    if known.standing is Standing.inexact:
        return f"{proved}{', ' if proved else ''}not from {_at(known.inexact_since)} on{_why(known.reason)}".rstrip(".")
    return proved or f"not proved yet{_why(known.reason)}".rstrip(".")


def risk(event: events.AtRisk) -> str:
    """What would be lost now, held to what was asked for, and what comes of it."""
    asked = f"{event.limit_timesteps:,} timesteps" if event.limit_timesteps else _seconds(event.limit_seconds)
    held = f" (limit {asked})" if event.limit_timesteps or event.limit_seconds else ""
    ends = " No publish can succeed: only the outputs of its end bring checkpoints out." if event.final else ""
    return (
        f"{event.at_risk_timesteps:,} timesteps, {_seconds(event.seconds)} of work, are at risk{held}"
        f"{_why(event.reason)}{ends}"
    )


def _progress(event: events.Progress) -> str:
    speed = f", {_number(event.steps_per_s)} timesteps/s" if event.steps_per_s is not None else ""
    figures = "".join(
        f", {words} {_number(value)}"
        for words, value in (("reward a step", event.reward), ("queue", event.queue))
        if value is not None
    )
    return f"At {_at(event.num_timesteps)} of {_number(event.total_timesteps)}{speed}{figures}."


def _number(value: float | str | None) -> str:
    """A figure as people read it, `?` where there is none; the text of one that is not finite is what it is."""
    if value is None:
        return "?"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def _seconds(value: float | None) -> str:
    return "?" if value is None else duration(value)


def _at(num_timesteps: int | None) -> str:
    return f"t{_number(num_timesteps)}"


def _size(value: int | None) -> str:
    return f", {value / 1e6:,.1f} MB" if value is not None and value >= SMALL_BYTES else ""


def _why(said: str) -> str:
    said = said.strip().rstrip(".")
    return f": {said}." if said else "."


def _limit(seconds: float) -> str:
    return "no limit of time" if unlimited(seconds) else f"at most {_seconds(seconds)}"


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _fields(extra: Mapping[str, Any]) -> str:
    told = ", ".join(f"{_words(key)} {value}" for key, value in extra.items() if isinstance(value, (str, int, float)))
    return f": {told}" if told else ""
