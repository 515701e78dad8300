"""Registers, spills and shared memory of the CUDA kernels, from ptxas; needs no GPU.

python -m benchmarks.ptx --install       makes .cuda-venv with numba-cuda for CUDA 12 (about 800 MB)
.cuda-venv/bin/python -m benchmarks.ptx  compiles and assembles; --json for machines
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHES = ((6, 0), (7, 5), (9, 0))
PLANNED = {"float32": 64, "float64": 96}
"""Registers a thread that were planned for; reached on sm_90, and by float64 on sm_75."""
LIMITS = {"float32": 88, "float64": 112}
"""Registers a thread that the kernel without nodes may not exceed on any GPU."""
NODE_LIMITS = {"float32": 168, "float64": 232}
"""Registers a thread with nodes compiled in: the solution of a node is long, serial, and runs once a sub-step."""


def install() -> None:
    """Make .cuda-venv; CUDA 12 because CUDA 13 no longer knows the P100 (sm_60)."""
    venv = ROOT / ".cuda-venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    packages = ["numba-cuda[cu12]", "numba==0.60.0", "gymnasium==1.2.0"]
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", *packages], check=True)


def find_ptxas() -> Path:
    """The assembler that nvidia-cuda-nvcc-cu12 brings."""
    import nvidia

    return next(Path(folder) / "cuda_nvcc" / "bin" / "ptxas" for folder in nvidia.__path__)


def assemble(dtype: str, nodes: bool, arch: tuple[int, int]) -> dict[str, object]:
    """Compile one kernel to PTX, assemble it, read what ptxas says of it."""
    from numba import cuda

    from arz_model.cells import Kind, stride_for
    from arz_model.physics import ClosureKey
    from arz_model.step_cuda import make_kernel, signature

    kind = Kind(ClosureKey("garz", 1.0, 1.0), dtype, "hll", False, True, nodes, stride_for(200))
    ptx, _ = cuda.compile_ptx(make_kernel(kind), signature(kind), cc=arch)
    name = f"sm_{arch[0]}{arch[1]}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [str(find_ptxas()), "-v", f"-arch={name}", str(source), "-o", str(source.with_suffix(".cubin"))]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "dtype": dtype,
        "nodes": nodes,
        "arch": name,
        "registers": max(int(x) for x in re.findall(r"Used (\d+) registers", report)),
        "spills": sum(int(x) for x in re.findall(r"(\d+) bytes spill", report)),
        "planned": PLANNED[dtype],
        "limit": (NODE_LIMITS if nodes else LIMITS)[dtype],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="make .cuda-venv")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args()
    if options.install:
        install()
        return
    rows = [assemble(dtype, nodes, arch) for dtype in LIMITS for nodes in (False, True) for arch in ARCHES]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'type':8} {'nodes':6} {'arch':6} {'registers':>9} {'planned':>7} {'limit':>6} {'spilled bytes':>13}")
    for row in rows:
        print("{dtype:8} {nodes!s:6} {arch:6} {registers:9} {planned:7} {limit:6} {spills:13}".format(**row))


if __name__ == "__main__":
    main()
