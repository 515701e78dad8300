"""Other simulators on a road of 1 km and 200 cells, one thread, in an environment of their own: see `compare`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.steady import verdict

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".bench-venv"
CLAWPACK = ("numpy<2.3", "clawpack", "meson", "ninja")
"""Built from source: needs a Fortran compiler."""
SUMO = ("eclipse-sumo", "libsumo", "sumo-rl")
PYCLAW = """
import time, numpy as np
from clawpack import pyclaw, riemann
domain = pyclaw.Domain([pyclaw.Dimension(0.0, 1000.0, 200, name="x")])
{equations}
solver.order, solver.verbosity, solver.dt_variable = 1, 0, False
solver.bc_lower[0] = solver.bc_upper[0] = pyclaw.BC.periodic
solver.dt = 1.0 / 6.0  # as ours: 0.83 of what waves of 25 m/s need for 5 m
solution = pyclaw.Solution(state, domain)
solver.setup(solution)
best = 1e9
for _ in range(20):
    start = time.perf_counter()
    for _ in range(60):
        solver.evolve_to_time(solution, solution.t + solver.dt)
    best = min(best, (time.perf_counter() - start) / 60 / solver.dt)
print(best * 1e6)
"""
EULER = """
solver = pyclaw.ClawSolver1D(riemann.euler_with_efix_1D)
state = pyclaw.State(domain, 3)
state.problem_data.update({"gamma": 1.4, "gamma1": 0.4, "efix": False})
state.q[0], state.q[1], state.q[2] = 1 + 0.1 * np.sin(6.28e-3 * domain.grid.x.centers), 0.1, 250.0
"""
ARZ = f"""
import os, subprocess, sys, tempfile
folder = tempfile.mkdtemp()
command = [sys.executable, "-m", "numpy.f2py", "-c", {str(ROOT / "benchmarks" / "arz.f90")!r}, "-m", "arz"]
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
subprocess.run(command, cwd=folder, check=True, capture_output=True)
sys.path.insert(0, folder)
import arz
solver = pyclaw.ClawSolver1D(arz)
solver.num_waves, solver.num_eqn, solver.fwave = 2, 2, True
state = pyclaw.State(domain, 2)
state.problem_data.update({{"gamma": 1.5, "k": 25.0 / 0.2**1.5}})
state.q[0] = 0.06 + 0.02 * np.sin(6.28e-3 * domain.grid.x.centers)
state.q[1] = 20.0 * state.q[0]
"""
UXSIM = """
import time
from uxsim import World
best = 1e9
for seed in range(3):
    world = World(name="", deltan=1, tmax=3600, print_mode=0, save_mode=0, show_mode=0, random_seed=seed)
    world.addNode("a", 0, 0)
    world.addNode("b", 1, 0)
    world.addLink("ab", "a", "b", length=1000, free_flow_speed=25, number_of_lanes=1)
    world.adddemand("a", "b", 0, 3600, 0.3)
    start = time.perf_counter()
    world.exec_simulation()
    best = min(best, (time.perf_counter() - start) / 3600)
print(best * 1e6)
"""
SUMO_RL = """
import os, time
import sumo
os.environ["SUMO_HOME"], os.environ["LIBSUMO_AS_TRACI"] = sumo.SUMO_HOME, "1"
import sumo_rl
net = os.path.join(os.path.dirname(sumo_rl.__file__), "nets", "2way-single-intersection", "single-intersection")
env = sumo_rl.SumoEnvironment(
    net + ".net.xml", net + "-vhvh.rou.xml", single_agent=True, delta_time=10, num_seconds=3600, sumo_warnings=False
)
env.reset()
times = []
for _ in range(120):
    start = time.perf_counter()
    env.step(env.action_space.sample())
    times.append(time.perf_counter() - start)
print(sorted(times)[60] / 10 / 4 * 1e6)
"""
PROGRAMS: tuple[tuple[str, tuple[str, ...], str, float | None], ...] = (
    ("PyClaw, single-class ARZ, Fortran, first order", CLAWPACK, PYCLAW.replace("{equations}", ARZ), 100.0),
    ("PyClaw, Euler, Fortran, first order", CLAWPACK, PYCLAW.replace("{equations}", EULER), None),
    ("UXsim, vehicles one by one", ("uxsim",), UXSIM, None),
    ("sumo-rl + libsumo, an approach of a crossing", SUMO, SUMO_RL, None),
)
"""Name, packages, what prints its microseconds a simulated second, and how many times ours that should be."""


def install(packages: tuple[str, ...]) -> str:
    """The Python that has them, in .bench-venv. Raises OSError where they cannot be installed."""
    if not PEERS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    python = str(PEERS / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", *packages]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        raise OSError("cannot be installed here")
    return python


def run(packages: tuple[str, ...], program: str) -> str:
    """What a program prints. Raises OSError: its packages cannot be installed, or it failed."""
    command = [install(packages), "-W", "ignore", "-c", program]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def compare(ours: dict[str, float]) -> None:
    """Print each program's time and how many times ours it is; `ours` by name [us a simulated second of 1 km]."""
    for name, value in ours.items():
        print(f"{f'us a simulated second of 1 km, {name}':52} {value:8.2f}")
    for name, packages, program, bar in PROGRAMS:
        try:
            theirs = float(run(packages, program).split()[-1])
        except OSError as error:
            print(f"{name:52} {error}")
            continue
        for ours_name, value in ours.items():
            said = verdict(theirs / value, bar, least=True)
            print(f"{name:52} {theirs:8.1f} {f'{theirs / value:.0f} x {ours_name}':>30}  {said}")
