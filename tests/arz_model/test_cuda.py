"""The CUDA kernel without a GPU: bit for bit against the CPU on the simulator; registers and spills from ptxas."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arz_model.network import Network, Segment
from arz_model.parameters import ParameterError
from arz_model.solver import AUTO_CUDA_FROM, Solver, cuda_works

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        ("hll", "float64", "garz", "-"),
        ("hll", "float32", "garz", "-"),
        ("hll", "float64", "arz", "clamp"),
        ("hll", "float32", "arz", "-"),
        ("van_leer", "float64", "garz", "-"),
        ("weno5", "float64", "garz", "-"),
    ],
    ids="-".join,
)
def test_cuda_step_equals_cpu_step_bit_for_bit(kind):
    """A signalised merge of ragged roads under excess demand; state, queues and observables."""
    done = subprocess.run(
        [sys.executable, str(HERE / "cuda_against_cpu.py"), *kind],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    difference, size = json.loads(done.stdout)
    assert difference == 0.0
    assert size > 1.0


def cuda_python():
    """An interpreter with numba-cuda and ptxas for CUDA 12, or None: KAGLAUNCH_CUDA_PYTHON, else .cuda-venv."""
    candidate = os.environ.get("KAGLAUNCH_CUDA_PYTHON")
    if candidate is None and (ROOT / ".cuda-venv" / "installed").exists():
        candidate = str(ROOT / ".cuda-venv" / "bin" / "python")
    return candidate if candidate and Path(candidate).exists() else None


@pytest.mark.slow
def test_kernels_assemble_for_every_gpu_of_kaggle_without_spills():
    """sm_60 (P100), sm_75 (T4), sm_90 (H100): nothing spilled, and no more registers than benchmarks.ptx plans."""
    python = cuda_python()
    if python is None:
        pytest.skip("no numba-cuda[cu12] with ptxas: run `make cuda-compiler`")
    done = subprocess.run(
        [python, "-m", "benchmarks.ptx", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert {row["arch"] for row in rows} >= {"sm_60", "sm_75", "sm_90"}
    assert [row for row in rows if row["spills"] > 0] == []
    assert [row for row in rows if row["registers"] > row["limit"]] == []


def test_auto_takes_the_cpu_for_small_batches():
    assert Solver(Network((Segment("road", 100.0, 10),)), device="auto", n_roads=AUTO_CUDA_FROM - 1).device == "cpu"


@pytest.mark.skipif(re.match("1", os.environ.get("NUMBA_ENABLE_CUDASIM", "0")) is not None, reason="simulator is on")
def test_asking_for_cuda_without_a_device_is_an_error_at_call_time():
    if cuda_works():
        pytest.skip("a CUDA device is present")
    with pytest.raises(ParameterError, match="device 'cuda' is not available here; ask for 'auto' or 'cpu'"):
        Solver(Network((Segment("road", 100.0, 10),)), device="cuda")
