"""The relative view: what differs by symmetry alone looks the same, and the same action does the same."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.batch import TrafficBatch
from arz_model.control.comparison import drive
from arz_model.control.controllers import Policy
from arz_model.control.health import check_environment
from arz_model.parameters import ParameterError

UNEVEN = scenarios.load("crossing")
UNEVEN = replace(
    UNEVEN,
    intersections=(
        replace(UNEVEN.intersections[0], phases=(("all but west", ("north", "south", "east")), ("west", ("west",)))),
    ),
)
PHASES = (("north", "south"), ("east", "west"))


def loaded(densities, phase):
    """A crossing with so many cars a metre on each road, and that phase green; one look at it in both views."""
    seen = []
    for view in ("absolute", "relative"):
        batch = TrafficBatch("crossing", 1, device="cpu", view=view)
        batch.reset([0], [np.random.default_rng(0)])
        for road, density in densities.items():
            s = batch.scenario.network.index[road]
            cells = np.linspace(density, 0.0, batch.scenario.network.segments[s].n_cells)
            batch.solver.set_density(s, 0.2 * cells, cells)
        batch.signals.phase[...] = batch.signals.previous[...] = phase
        seen.append(batch.observe()[0])
    return seen


def test_situations_that_differ_by_symmetry_look_the_same_and_others_do_not():
    densities = {"north": 0.02, "south": 0.1, "east": 0.05, "west": 0.0}
    mirrored = {"north": 0.1, "south": 0.02, "east": 0.0, "west": 0.05}
    turned = {"east": 0.02, "west": 0.1, "north": 0.05, "south": 0.0}
    other = {"north": 0.05, "south": 0.1, "east": 0.02, "west": 0.0}
    (first, seen), (_, same), (_, rotated), (_, unlike) = (
        loaded(densities, 0), loaded(mirrored, 0), loaded(turned, 1), loaded(other, 0),
    )  # fmt: skip
    np.testing.assert_array_equal(seen, same)
    np.testing.assert_array_equal(seen, rotated)
    assert not np.array_equal(seen, unlike)
    n_roads = len(seen) - 4
    assert sorted(seen[:n_roads]) == sorted(first[:n_roads])


def test_phases_that_differ_in_kind_are_told_apart():
    seen = []
    for phase in (0, 1):
        batch = TrafficBatch("lagos", 1, device="cpu", view="relative")
        batch.reset([0], [np.random.default_rng(0)])
        batch.signals.phase[...] = batch.signals.previous[...] = phase
        seen.append(batch.observe()[0])
    assert [obs[-4:-2].tolist() for obs in seen] == [[1.0, 0.0], [0.0, 1.0]]


def test_a_turning_lane_is_seen_with_its_approach_and_the_two_streets_look_alike():
    seen = []
    for street, phase in ((("north", "south"), 1), (("east", "west"), 3)):
        batch = TrafficBatch("crossing_four_phases", 1, device="cpu", view="relative")
        batch.reset([0], [np.random.default_rng(0)])
        for road, density in zip((street[0], f"{street[1]}_left"), (0.1, 0.05), strict=True):
            s = batch.scenario.network.index[road]
            cells = np.full(batch.scenario.network.segments[s].n_cells, density)
            batch.solver.set_density(s, 0.2 * cells, cells)
        batch.signals.phase[...] = batch.signals.previous[...] = phase
        seen.append(batch.observe()[0])
    np.testing.assert_array_equal(*seen)
    named = dict(zip(batch.observer.names, seen[0], strict=True))
    assert named["present phase, fullest road, feeder 0-20 m"] > named["present phase, second road 0-20 m"] > 0.0
    assert named["phase +3, fullest road, feeder 0-20 m"] == named["present phase, fullest road, feeder 0-20 m"]
    assert named["present phase, second road, feeder 0-20 m"] == named["phase +1, fullest road 0-20 m"] == 0.0


def test_the_roads_of_the_present_phase_come_first_the_fullest_before_the_others():
    absolute, relative = loaded({"north": 0.02, "south": 0.1, "east": 0.05, "west": 0.08}, 1)
    names = gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing").unwrapped.observation_names
    blocks = {road: [i for i, name in enumerate(names) if name.startswith(road)] for phase in PHASES for road in phase}
    order = [i for road in ("west", "east", "south", "north") for i in blocks[road]]
    np.testing.assert_array_equal(relative[: len(order)], absolute[order])
    seen_as = gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing", view="relative").unwrapped
    assert seen_as.observation_names[0] == "present phase, fullest road 0-20 m"
    assert seen_as.observation_names[len(order) - 1] == "phase +1, second road entrance"


def test_actions_count_from_the_present_phase():
    env = gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing_four_phases").unwrapped
    twin = gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing", view="relative").unwrapped
    twin.reset(seed=0)
    phases = [twin.step(action)[4]["phase"] for action in (0, 1, 0, 0, 1, 0)]
    assert phases == [0, 1, 1, 1, 0, 0]
    twin.reset(seed=0)
    assert twin.action_masks().tolist() == [True, False]
    for _ in range(2):
        twin.step(0)
    assert twin.action_masks().tolist() == [True, True]
    with pytest.raises(ValueError, match="actions must be below"):
        twin.step(2)
    assert env.action_masks().shape == (4,)


def test_one_view_plays_what_the_other_plays():
    class Alternating:
        """Asks for a change every fourth decision, in the words of its view."""

        def __init__(self, view):
            self.view, self.k = view, -1

        def predict(self, obs, state, episode_start, deterministic):
            self.k += 1
            asked = self.k // 4 % 2 if self.view == "absolute" else int(self.k % 4 == 0 and self.k > 0)
            return np.full((len(obs), 1), asked), None

    played = [
        drive(Policy(Alternating(view), env_kwargs={"view": view}), "crossing", range(3))
        for view in ("absolute", "relative")
    ]
    for name, values in played[0].figures.items():
        np.testing.assert_array_equal(values, played[1].figures[name])


@pytest.mark.parametrize("scenario", ["quick", "crossing", "crossing_four_phases", "lagos"])
def test_gymnasium_and_the_health_gate_accept_the_relative_view(scenario):
    env = gymnasium.make("arz_model:TrafficSignal-v0", scenario=scenario, device="cpu", view="relative")
    check_env(env.unwrapped, skip_render_check=True)
    assert [finding for finding in check_environment(env) if not finding.passed] == []


@pytest.mark.parametrize(
    ("scenario", "view", "said"),
    [
        ("corridor", "relative", "for one intersection; there are"),
        (UNEVEN, "relative", "every road with a signal in exactly one"),
        ("crossing", "mine", "view must be one of absolute, relative; got 'mine'"),
    ],
)
def test_what_has_no_relative_view_is_refused(scenario, view, said):
    with pytest.raises(ParameterError, match=said):
        TrafficBatch(scenario, device="cpu", view=view)


def test_an_agent_gets_its_memory_back_and_the_masks_of_the_moment():
    class Counting:
        """Remembers how often it was asked; asks for what is allowed last."""

        def __init__(self):
            self.starts = []

        def predict(self, obs, state, episode_start, deterministic, action_masks):
            self.starts.append(episode_start.copy())
            assert deterministic
            assert state == (None if len(self.starts) == 1 else len(self.starts) - 1)
            allowed.append(action_masks.copy())
            return np.array([[np.flatnonzero(row)[-1]] for row in action_masks]), len(self.starts)

    allowed = []
    model = Counting()
    drive(Policy(model), "crossing", range(3))
    assert [begins.all() for begins in model.starts] == [True, *[False] * (len(model.starts) - 1)]
    assert not np.any(model.starts[1:])
    assert all(masks.shape == (3, 2) and masks.any(axis=1).all() for masks in allowed)
    assert len({masks.tobytes() for masks in allowed}) > 1
