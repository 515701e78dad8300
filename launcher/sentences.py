"""The events of a session as sentences: docs/events.md has what each holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher.tables import duration

Event = Mapping[str, Any]


def sentence(event: Event) -> str:
    """What `event` says, in one sentence; a field that is missing is left out of it."""
    told = _SENTENCES.get(str(event.get("event")))
    return told(event) if told is not None else str(event.get("event", "")).replace("_", " ").capitalize() + "."


def _number(event: Event, key: str) -> str:
    """A figure as people read it, `?` where there is none."""
    value = event.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "?"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _word(event: Event, key: str) -> str:
    return str(event.get(key) or "?")


def _seconds(event: Event, key: str) -> str:
    value = event.get(key)
    return duration(value) if isinstance(value, (int, float)) else "?"


def _why(event: Event) -> str:
    said = str(event.get("message") or event.get("reason") or "").strip().rstrip(".")
    return f": {said}." if said else "."


def _at(event: Event) -> str:
    return f"t{_number(event, 'num_timesteps')}"


def _bytes(event: Event) -> str:
    value = event.get("bytes")
    return f", {value / 1e6:,.1f} MB" if isinstance(value, (int, float)) and value >= 50_000 else ""


def _session(event: Event) -> str:
    return (
        f"Session {_number(event, 'session')} of run {_word(event, 'run_id')} begins: "
        f"{_number(event, 'total_timesteps')} timesteps, device {_word(event, 'device')}, "
        f"at most {_seconds(event, 'max_seconds')}."
    )


def _gate(event: Event) -> str:
    checks = [check for check in event.get("checks") or () if isinstance(check, Mapping)]
    bad = [f"{check.get('verdict')} {check.get('name')}" for check in checks if check.get("verdict") != "PASS"]
    return f"The trial before the training: {', '.join(bad) or f'all {len(checks)} checks pass'}."


def _training(event: Event) -> str:
    start = f"from {_at(event)}" if event.get("num_timesteps") else "from scratch"
    return (
        f"Training begins {start} of {_number(event, 'total_timesteps')}: {_word(event, 'algorithm')} on "
        f"{_word(event, 'device')}."
    )


def _calibration(event: Event) -> str:
    fits = "fits into this session" if event.get("fits") else "does not fit into this session"
    return (
        f"Measured {_number(event, 'steps_per_s')} timesteps/s: the rest takes {_seconds(event, 'seconds_needed')} "
        f"and {fits}."
    )


def _progress(event: Event) -> str:
    speed = f", {_number(event, 'steps_per_s')} timesteps/s" if event.get("steps_per_s") is not None else ""
    figures = "".join(
        f", {words} {_number(event, key)}"
        for key, words in (("ep_rew_mean", "episode return"), ("reward", "reward a step"), ("queue", "queue"))
        if isinstance(event.get(key), (int, float))
    )
    return f"At t{_number(event, 'num_timesteps')} of {_number(event, 'total_timesteps')}{speed}{figures}."


def _evaluation(event: Event) -> str:
    return (
        f"Evaluated at {_at(event)}: return {_number(event, 'mean_reward')} ± {_number(event, 'std_reward')}, "
        f"{_number(event, 'mean_ep_length')} steps an episode."
    )


def _published(event: Event) -> str:
    version = f" as version {event['version']}" if event.get("version") is not None else ""
    return f"Published {_at(event)}{version}{_bytes(event)}, in {_seconds(event, 'seconds')}: it is safe."


def _result(event: Event) -> str:
    return (
        f"The session ended, {_word(event, 'status')}: {_at(event)} of {_number(event, 'total_timesteps')}, "
        f"{_number(event, 'published_timesteps')} published{_why(event)}"
    )


_SENTENCES: Mapping[str, Callable[[Event], str]] = {
    "session": _session,
    "write_proved": lambda e: "The dataset takes versions: checkpoints have a way out.",
    "write_failed": lambda e: f"No dataset version could be created{_why(e)}",
    "phase": lambda e: f"Next: {_word(e, 'detail')}.",
    "gate": _gate,
    "training": _training,
    "calibration": _calibration,
    "progress": _progress,
    "evaluation": _evaluation,
    "checkpoint": lambda e: f"Checkpoint at {_at(e)}{_bytes(e)}, on the session's disk.",
    "checkpoint_failed": lambda e: f"The checkpoint at {_at(e)} could not be written{_why(e)}",
    "checkpoint_refused": lambda e: f"The checkpoint {_word(e, 'file')} did not verify{_why(e)}",
    "cadence": lambda e: f"Checkpoints come every {_seconds(e, 'seconds_between')} from {_at(e)} on{_why(e)}",
    "published": _published,
    "publish_failed": lambda e: f"Publishing {_at(e)} failed{_why(e)}",
    "flood": lambda e: f"A flood of {_number(e, 'lines_per_s')} log lines/s, {_word(e, 'action')}{_why(e)}",
    "health": lambda e: f"Health, {_word(e, 'rule').replace('_', ' ')}{_why(e)}",
    "inexact": lambda e: f"From {_at(e)} on the training is not bit-identical to an uninterrupted one{_why(e)}",
    "restart": lambda e: f"The trainer starts again from t{_number(e, 'from_timesteps')}{_why(e)}",
    "deadline": lambda e: (
        f"The session limit is near, {_seconds(e, 'seconds_left')} left: the last checkpoint, then the end."
    ),
    "result": _result,
}
