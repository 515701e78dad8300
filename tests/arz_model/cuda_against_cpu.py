"""Run as a script under NUMBA_ENABLE_CUDASIM=1: prints the largest difference between the CUDA kernel and the CPU's.

Three roads of a merge with signals, a demand above supply, N cells of ragged number, K sub-steps.
"""

import json
import sys

import numpy as np

from arz_model import step_cuda
from arz_model.network import Network, Node, Segment
from arz_model.parameters import Parameters
from arz_model.solver import Solver


def use_from_the_host(solver, n_steps, arrivals, signals):
    """Change the state from the host between calls; on the GPU it stays there until it is asked for."""
    before = solver._q.copy()
    solver.clear([1])
    solver.advance(n_steps, arrivals, signals)
    if solver.device == "cuda":
        np.testing.assert_array_equal(solver._q, before)
        assert not solver.density("a").flags.writeable
        assert not solver.waiting.flags.writeable
    assert np.abs(solver.density("out") - before[:, 0::2, solver.layout.real_cells(2)]).max() > 0.0
    solver.set_density("b", 0.02, 0.03)
    solver.clear([0])
    solver.advance(n_steps, arrivals, signals)
    saved = solver.state_dict()
    solver.advance(n_steps, arrivals, signals)
    solver.load_state_dict(saved)


def difference(scheme, dtype, closure, clamp):
    segments = (
        Segment("a", 60.0, 6, saturation_flow=0.4),
        Segment("b", 50.0, 5, v_free_m=11.0),
        Segment("out", 70.0, 7),
    )
    network = Network(segments, (Node(("a", "b"), ("out",), priorities=(1.0, 2.0)),))
    rng = np.random.default_rng(5)
    states = {s: rng.uniform(0.0, 0.1, (2, segments[s].n_cells)) for s in range(3)}
    arrivals = rng.uniform(0.0, 0.8, (3, 2, 2, 2)).astype(dtype)
    n_steps = 4 if scheme == "hll" else 2
    signals = rng.integers(0, n_steps + 1, (3, 3, 2))
    step_cuda.THREADS = 8  # fewer than cells, so that each takes several
    results = []
    for device in ("cpu", "cuda"):
        solver = Solver(
            network, Parameters(closure=closure), n_roads=3, dtype=dtype, scheme=scheme, clamp=clamp, device=device
        )
        for s, rho in states.items():
            solver.set_density(s, *rho)
        for _ in range(2):
            measured = solver.advance(n_steps, arrivals, signals)
        assert solver.device == device
        if scheme == "hll":
            use_from_the_host(solver, n_steps, arrivals, signals)
            measured = solver.advance(n_steps, arrivals, signals)
        results.append(
            np.concatenate([solver.state_dict()["q"].ravel(), solver.waiting.ravel(), measured.totals.ravel()])
        )
    cpu, cuda = results
    assert np.abs(cpu).max() > 0.1
    return float(np.abs(cpu - cuda).max()), float(np.abs(cpu).max())


if __name__ == "__main__":
    scheme, dtype, closure, clamp = sys.argv[1:]
    sys.stdout.write(json.dumps(difference(scheme, dtype, closure, clamp == "clamp")))
