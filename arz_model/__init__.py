"""Two-class ARZ traffic solver and the signal-control environment on it.

Importing this registers `arz_model:TrafficSignal-v0` with gymnasium and does nothing else; the solver and its compiler
load when the environment is made.
"""

from gymnasium.envs.registration import register

register(
    id="TrafficSignal-v0",
    entry_point="arz_model.control.env:TrafficSignalEnv",
    vector_entry_point="arz_model.control.vector:TrafficSignalVectorEnv",
)
