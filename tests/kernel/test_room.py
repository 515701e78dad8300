"""Whether a disk has room for a run is judged by figures, and what is advised fits."""

from __future__ import annotations

import re

import pytest

from kernel.checkpoints.room import REPLAY_BUFFERS, Takes, judge

GB = 1_000_000_000


def advised(fix: str) -> int:
    match = re.search(r"buffer_size = (\d+)", fix)
    assert match is not None
    return int(match[1])


def test_a_buffer_that_fits_in_any_case_passes() -> None:
    check = judge(Takes(10_000_000, 5 * GB), 18 * GB, 100_000)
    assert check.verdict.value == "PASS"
    assert check.evidence == (
        "A replay buffer of 5.0 GB and its checkpoints take up to 11.1 GB of the disk; 18.0 GB are there for them."
    )


def test_one_that_fits_only_as_small_as_it_was_measured_is_warned_of() -> None:
    check = judge(Takes(10_000_000, 20 * GB, 0.25), 18 * GB, 400_000)
    assert check.verdict.value == "WARN"
    assert "about 11.1 GB of the disk, 44.1 GB where nothing repeats" in check.evidence
    assert judge(Takes(10_000_000, 20 * GB * advised(check.fix) // 400_000), 18 * GB, 1).verdict.value == "PASS"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_that_does_not_fit_is_refused_with_a_size_that_does(share: float) -> None:
    takes = Takes(10_000_000, 20 * GB, share)
    check = judge(takes, 18 * GB, 400_000)
    assert check.verdict.value == "FAIL"
    smaller = Takes(10_000_000, 20 * GB * advised(check.fix) // 400_000, share)
    assert judge(smaller, 18 * GB, 1).verdict.value != "FAIL"


def test_checkpoints_without_a_replay_buffer_are_judged_by_themselves() -> None:
    assert judge(Takes(GB), 18 * GB, 1).verdict.value == "PASS"
    assert judge(Takes(4 * GB), 18 * GB, 1).verdict.value == "FAIL"
    assert Takes(GB, 10 * GB).most_bytes == 6 * GB + int(REPLAY_BUFFERS * 10 * GB)
