"""What a session proves of its run beside the training, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.exactness import Exactness, Standing
from kernel.contract.manifest import checkpoints_in, verify

from .test_supervisor import SLOW, Running, Start, start  # noqa: F401  fixtures

SOON: dict[str, Any] = {"proof_after_seconds": 0.2, "checkpoint_seconds": 0.0}


def _newest(session: Running) -> Exactness:
    return verify(checkpoints_in(session.folder / "checkpoints")[0]).exactness


def _says(session: Running, event: str) -> bool:
    return any(one["event"] == event for one in session.events())


def test_a_stretch_of_a_training_from_scratch_is_executed_again_beside_it(start: Start) -> None:  # noqa: F811
    session = start(SLOW, **SOON)
    proved = session.wait_for("proved")
    assert 0 < proved["from_timesteps"] < proved["num_timesteps"]
    reached = session.events()[-1].get("num_timesteps", 0)
    session.wait_for("checkpoint", num_timesteps=(max(reached, proved["num_timesteps"]) // 10 + 3) * 10)
    session.process.terminate()
    result = session.end()
    assert (result["exact"], result["exactness"]["proved_to"]) == (True, proved["num_timesteps"])
    assert _newest(session) == Exactness(proved_to=proved["num_timesteps"])
    assert not list(session.folder.glob(".proof-*"))


def test_a_resume_is_proved_from_the_checkpoint_before_to_the_one_it_began_at(start: Start) -> None:  # noqa: F811
    first = start(SLOW, proof=False)
    first.wait_for("checkpoint", num_timesteps=40)
    first.process.terminate()
    stopped = first.end()
    assert not _says(first, "proved")
    assert Exactness(**stopped["exactness"]).standing is Standing.unproved
    again = start(SLOW, session=2, **SOON)
    proved = again.wait_for("proved")
    assert proved["from_timesteps"] < proved["num_timesteps"] == stopped["num_timesteps"]


def test_what_hangs_on_the_clock_is_found_to_be_inexact_and_named(start: Start) -> None:  # noqa: F811
    session = start({**SLOW, "env": "toy_environments:WallClockQueue"}, **SOON)
    inexact = session.wait_for("inexact")
    assert "env.queue" in inexact["reason"]
    session.process.terminate()
    result = session.end()
    assert (result["exact"], result["exactness"]["proved_to"]) == (False, None)
    assert "env.queue" in result["exactness"]["reason"]


def test_a_proof_that_comes_to_no_end_is_said_to_be_none(start: Start) -> None:  # noqa: F811
    session = start({**SLOW, "env": "toy_environments:PipeQueue"}, environment_state="visible", **SOON)
    unproved = session.wait_for("unproved")
    assert "the second process ended with" in unproved["reason"]
    assert "Bad file descriptor" in unproved["reason"]
    session.process.terminate()
    result = session.end()
    assert (result["exact"], result["exactness"]["proved_to"]) == (True, None)


def test_nothing_is_tried_from_a_checkpoint_that_lost_its_environments(start: Start) -> None:  # noqa: F811
    session = start({**SLOW, "total_timesteps": 400}, environment_state="none", **SOON)
    result = session.end(120.0)
    assert [one["num_timesteps"] for one in session.events() if one["event"] in ("proved", "unproved")] == []
    (inexact,) = (one for one in session.events() if one["event"] == "inexact")
    assert "begins new episodes" in inexact["reason"]
    assert "begins new episodes" in result["exactness"]["reason"]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Exactness(10), Exactness(20), Exactness(20)),
        (Exactness(10), Exactness(None, 15, "so"), Exactness(10, 15, "so")),
        (Exactness(20), Exactness(None, 15, "so"), Exactness(None, 15, "so")),
        (Exactness(None, 30, "late"), Exactness(None, 15, "early"), Exactness(None, 15, "early")),
        (Exactness(), Exactness(None, None, "too dear"), Exactness(None, None, "too dear")),
        (Exactness(5), Exactness(None, None, "too dear"), Exactness(5)),
    ],
)
def test_what_two_know_is_joined(one: Exactness, other: Exactness, both: Exactness) -> None:
    assert one.joined(other) == both
    assert other.joined(one) == both


def test_a_manifest_of_before_says_from_where_on_it_was_inexact(tmp_path: Path) -> None:
    from kernel.contract.manifest import Manifest

    values = json.loads(Manifest("a-run-aaaaaa", 1, 40, 100, "", {}, exact=False).to_json())
    del values["exactness"]
    read = Manifest.from_json(json.dumps(values))
    assert (read.exactness.inexact_since, read.exact) == (40, False)
