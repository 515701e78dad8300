"""Write docs/validation.md and its plots from runs of the solver: `python -m benchmarks.validate`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from arz_model import validation
from arz_model.network import Network, Node, Segment
from arz_model.reference import CASES, Riemann, dispersion
from arz_model.solver import Solver
from benchmarks import svg

DOCS = Path(__file__).resolve().parents[1] / "docs"
log = logging.getLogger(__name__)

GARZ_CASES = {
    "shock": (Riemann(0.05, 10.0, 0.15, 4.0), 10.0),
    "rarefaction": (Riemann(0.2, 2.0, 0.05, 10.0), 12.5),
    "contact": (Riemann(0.2, 4.0, 0.05, 4.0), 5.0),
}
CELLS = {
    "hll": (50, 100, 200, 400),
    "minmod": (100, 200, 400, 800),
    "van_leer": (50, 100, 200, 400),
    "weno5": (25, 50, 100),
}


def riemann_table() -> list[str]:
    """L1 errors of the additive closure's Riemann problems."""
    rows = [
        "| problem | gamma | N=200 | N=400 | N=800 | last rate | N=800 with clamp |",
        "|---|---|---|---|---|---|---|",
    ]
    for gamma in (1.0, 2.0):
        for name in CASES:
            errors = [validation.riemann_error(name, gamma, n) for n in (200, 400, 800)]
            clamped = validation.riemann_error(name, gamma, 800, clamp=True)
            cells = " | ".join(f"{e:.2e}" for e in errors)
            rows.append(
                f"| {name} | {gamma:g} | {cells} | {validation.observed_rates(errors)[-1]:.2f} | {clamped:.2e} |"
            )
    return rows


def garz_table() -> list[str]:
    """L1 errors of closure G, densities over jam density."""
    rows = ["| problem | N=200 | N=400 | N=800 | last rate |", "|---|---|---|---|---|"]
    for name, (case, w_r) in GARZ_CASES.items():
        errors = [validation.garz_riemann_error(case, w_r, n, 20.0) for n in (200, 400, 800)]
        cells = " | ".join(f"{e:.2e}" for e in errors)
        rows.append(f"| {name} | {cells} | {validation.observed_rates(errors)[-1]:.2f} |")
    return rows


def order_table() -> tuple[list[str], str]:
    """Errors and orders of smooth translation, and their plot."""
    rows = ["| scheme | cells | L1 errors | rates |", "|---|---|---|---|"]
    lines = {}
    for scheme, cells in CELLS.items():
        errors = [validation.translation_error(scheme, n, "garz") for n in cells]
        rates = ", ".join(f"{r:.2f}" for r in validation.observed_rates(errors))
        rows.append(f"| {scheme} | {', '.join(map(str, cells))} | {', '.join(f'{e:.2e}' for e in errors)} | {rates} |")
        lines[scheme] = (cells, errors)
    return rows, svg.plot("Smooth translation, closure G", "cells", "L1 error", lines, log=True)


def growth_table() -> list[str]:
    """Growth rates of the published unstable set-up against linear theory."""
    rows = [
        "| mode | growth rate, theory [1/s] | measured | phase speed, theory [m/s] | measured |",
        "|---|---|---|---|---|",
    ]
    for mode in (1, 12):
        k = 2.0 * np.pi * mode / validation.JAMITON_LENGTH
        theory = dispersion(
            k, validation.JAMITON_SPEED, 5.0, validation.JAMITON_DENSITY,
            validation.JAMITON_H_SLOPE, validation.JAMITON_U_SLOPE,
        )  # fmt: skip
        measured = validation.growth_rate(mode)
        rows.append(
            f"| {mode} | {theory.real:.6f} | {measured.real:.6f} | {-theory.imag / k:.4f} | {-measured.imag / k:.4f} |"
        )
    return rows


def mass_table() -> list[str]:
    """Relative drift of the vehicle balance over 10 000 sub-steps."""
    rows = ["| road | float64 | float32 |", "|---|---|---|"]
    single = Network((Segment("road", 300.0, 60, saturation_flow=0.5),))
    merge = Network(
        (Segment("a", 200.0, 40, saturation_flow=0.5), Segment("b", 200.0, 40), Segment("out", 200.0, 40)),
        (Node(("a", "b"), ("out",)),),
    )
    for name, network, opened in (
        ("closed", single, False),
        ("open, signalised", single, True),
        ("merge", merge, True),
    ):
        drifts = [mass_drift(network, dtype, opened) for dtype in ("float64", "float32")]
        rows.append(f"| {name} | {drifts[0]:.1e} | {drifts[1]:.1e} |")
    return rows


def mass_drift(network: Network, dtype: str, opened: bool) -> float:
    """|held + left - arrived - initial| over what there was, the audit in float64."""
    rng = np.random.default_rng(3)
    solver = Solver(network, device="cpu", dtype=dtype)
    for s, segment in enumerate(network.segments):
        solver.set_density(s, *rng.uniform(0.0, 0.1, (2, segment.n_cells)))
    before = float(solver.vehicles().sum())
    n = solver.n_steps(5.0)
    arrived = left = 0.0
    exits = [s for s in range(len(network.segments)) if solver.layout.segments[s, 4]]
    for k in range(10_000 // n):
        signals = np.zeros((1, len(network.segments), 2), np.int64)
        if opened:
            signals[:, :, 1] = n
            signals[:, 0, 1] = n if k // 6 % 2 else 0
        rate = 0.2 if opened else 0.0
        flow = rng.poisson(rate, (1, 5, solver.waiting.shape[1], 2)).astype(dtype)
        measured = solver.advance(n, flow, signals)
        arrived += float(measured.arrivals.sum(dtype=np.float64))
        left += float(measured.outflow[:, exits].sum(dtype=np.float64))
    held = float(solver.vehicles().sum()) + float(solver.waiting.sum(dtype=np.float64))
    return abs(held + left - arrived - before) / (before + arrived)


def contact_plot() -> str:
    """Speed across a pure contact, with and without the clamp."""
    lines = {}
    for label, clamp in (("HLL", False), ("HLL, clamped", True)):
        x, _, v, _, exact = validation.run_riemann("contact", 1.0, 200, clamp=clamp)
        lines[label] = (x.tolist(), v.tolist())
    lines["exact"] = (x.tolist(), exact.tolist())
    return svg.plot("Pure contact, v = 0.3, t = 0.5, N = 200", "x", "speed", lines)


def vacuum_plot() -> str:
    """Density of a Riemann problem with vacuum."""
    x, rho, _, exact, _ = validation.run_riemann("vacuum", 1.0, 200)
    _, second, _, _, _ = validation.run_riemann("vacuum", 1.0, 200, scheme="van_leer")
    lines = {"HLL": rho, "van Leer": second, "exact": exact}
    return svg.plot("Vacuum, t = 0.5, N = 200", "x", "density", {k: (x.tolist(), v.tolist()) for k, v in lines.items()})


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("arz_model").setLevel(logging.ERROR)  # the Riemann problems are denser than their k allows
    folder = DOCS / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    log.info("orders of accuracy…")
    orders, order_plot = order_table()
    (folder / "orders.svg").write_text(order_plot)
    log.info("Riemann problems…")
    (folder / "contact.svg").write_text(contact_plot())
    (folder / "vacuum.svg").write_text(vacuum_plot())
    riemann, garz = riemann_table(), garz_table()
    log.info("growth rates and balances…")
    sections = [
        "# Validation",
        "Written by `python -m benchmarks.validate` from runs; do not edit. What is run is in "
        "`arz_model/validation.py`, the exact solutions in `arz_model/reference.py`; "
        "`tests/arz_model` holds the same figures to gates.",
        "## Riemann problems, additive closure p = rho^gamma",
        "First-order HLL on [0, 1], t = 0.5; L1 error of the density. The clamp holds speeds across contacts.",
        "\n".join(riemann),
        "![speed across a contact](validation/contact.svg)",
        "![vacuum](validation/vacuum.svg)",
        "## Riemann problems, closure G",
        "First-order HLL on 1000 m, t = 20 s; L1 error of the density over the jam density.",
        "\n".join(garz),
        "## Orders of accuracy",
        "Exact translation of smooth densities of both classes at a common constant speed (WENO with dt ~ dx^(5/3)).",
        "\n".join(orders),
        "![orders](validation/orders.svg)",
        "## Growth of perturbations",
        "Set-up of "
        "Seibold, Flynn, Kasimov & Rosales (2013): rho0 = 0.6, tau = 5 s, ring of 500 m; 400 cells, van Leer.",
        "\n".join(growth_table()),
        "## Vehicle balance",
        "Relative drift of held + left - arrived over 10 000 sub-steps, closure G, first order.",
        "\n".join(mass_table()),
    ]
    (DOCS / "validation.md").write_text("\n\n".join(sections) + "\n")
    log.info("wrote %s", DOCS / "validation.md")


if __name__ == "__main__":
    main()
