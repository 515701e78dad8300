"""Registers, spills and shared memory of the CUDA kernels, from ptxas; needs no GPU.

python -m benchmarks.ptx --install       makes .cuda-venv with numba-cuda for CUDA 12 (about 700 MB)
.cuda-venv/bin/python -m benchmarks.ptx  compiles and assembles; --json for machines
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHES = ((6, 0), (7, 5), (9, 0))
"""P100, T4, H100. PTX is made once for the first, which all accept; made for each, the figures are the same."""
PLANNED = {"float32": 64, "float64": 96}
"""Registers a thread that may not be exceeded."""
P100_WITH_NODES = {"float32": 96, "float64": 104}
"""On sm_60 with nodes compiled in: held to what is planned it would spill."""


PACKAGES = (
    "numba-cuda",
    "cuda-bindings>=12.9,<13",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-cuda-nvrtc-cu12",
    "numba==0.60.0",
    "gymnasium==1.2.0",
)


def install() -> None:
    """Make .cuda-venv; CUDA 12 because CUDA 13 no longer knows the P100 (sm_60)."""
    venv = ROOT / ".cuda-venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    (venv / "installed").touch()


def find_ptxas() -> Path:
    """The assembler that nvidia-cuda-nvcc-cu12 brings."""
    import nvidia

    return next(Path(folder) / "cuda_nvcc" / "bin" / "ptxas" for folder in nvidia.__path__)


def assemble(variant: tuple[str, bool]) -> list[dict[str, object]]:
    """Compile one kernel (floating-point type, with nodes) to PTX, assemble it for each GPU, read what ptxas says."""
    dtype, nodes = variant
    from numba import cuda

    from arz_model.cells import Kind, stride_for
    from arz_model.physics import ClosureKey
    from arz_model.step_cuda import make_kernel, max_registers, signature

    kind = Kind(ClosureKey("garz", 1.0, 1.0), dtype, "hll", False, True, nodes, stride_for(200), stride_for(200), 8)
    ptx, _ = cuda.compile_ptx(make_kernel(kind), signature(kind), cc=ARCHES[0])
    rows: list[dict[str, object]] = []
    for arch in ARCHES:
        name, most = f"sm_{arch[0]}{arch[1]}", max_registers(kind, arch)
        held = [f"-maxrregcount={most}"] if most else []
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernel.ptx"
            source.write_text(ptx)
            command = [str(find_ptxas()), "-v", f"-arch={name}", *held, str(source), "-o", f"{source}.cubin"]
            report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        rows.append(
            {
                "dtype": dtype,
                "nodes": nodes,
                "arch": name,
                "registers": max(int(x) for x in re.findall(r"Used (\d+) registers", report)),
                "spills": sum(int(x) for x in re.findall(r"(\d+) bytes spill", report)),
                "planned": PLANNED[dtype],
                "limit": (P100_WITH_NODES if nodes and arch == ARCHES[0] else PLANNED)[dtype],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="make .cuda-venv")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args()
    if options.install:
        install()
        return
    variants = [(dtype, nodes) for dtype in PLANNED for nodes in (False, True)]
    with ProcessPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(assemble, variants) for row in rows]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'type':8} {'nodes':6} {'arch':6} {'registers':>9} {'planned':>7} {'limit':>6} {'spilled bytes':>13}")
    for row in rows:
        print("{dtype:8} {nodes!s:6} {arch:6} {registers:9} {planned:7} {limit:6} {spills:13}".format(**row))


if __name__ == "__main__":
    main()
