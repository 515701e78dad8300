"""What a solver holds and what it measures: names, shapes, and the saved form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONSERVED = ("rho_m", "y_m", "rho_c", "y_c")
"""Rows of the state: densities [veh/m] and y_i = rho_i w_i [veh/s]."""

OBSERVABLES = ("delay", "queue", "vehicles", "inflow", "outflow", "entrance", "arrivals", "pressure")
"""Columns of `totals`, each for m and then for c; see Observables."""

N_TOTALS = 2 * len(OBSERVABLES)


@dataclass(frozen=True)
class Observables:
    """Integrals of the discrete solution over one call of `Solver.advance`; arrays (B, S, 2), classes m and c.

    On segments whose ends are transmissive or periodic `queue` alone is measured.

    They are sums over the very states and fluxes that the scheme uses, so that the balances hold to round-off.
    """

    totals: NDArray[np.floating]
    """(B, S, 16) as the kernel fills it."""

    def _column(self, name: str) -> NDArray[np.floating]:
        k = 2 * OBSERVABLES.index(name)
        return self.totals[:, :, k : k + 2]

    @property
    def delay(self) -> NDArray[np.floating]:
        """Time lost against free flow on the segment: int int rho_i (1 - v_i / v_free_i) dx dt [veh s].

        It is time spent minus metres travelled over the free speed, with the metres from the scheme's own fluxes.
        """
        return self._column("delay")

    @property
    def queue(self) -> NDArray[np.floating]:
        """Time spent slower than the queue speed: int int rho_i 1[v_i < v_queue] dx dt [veh s]."""
        return self._column("queue")

    @property
    def vehicles(self) -> NDArray[np.floating]:
        """Time spent on the segment: int int rho_i dx dt [veh s]."""
        return self._column("vehicles")

    @property
    def inflow(self) -> NDArray[np.floating]:
        """Vehicles that entered the segment [veh]."""
        return self._column("inflow")

    @property
    def outflow(self) -> NDArray[np.floating]:
        """Vehicles that left the segment: its throughput [veh]."""
        return self._column("outflow")

    @property
    def entrance(self) -> NDArray[np.floating]:
        """Time spent in the entrance queue: int Q_i dt [veh s]; all of it is delay."""
        return self._column("entrance")

    @property
    def arrivals(self) -> NDArray[np.floating]:
        """Vehicles that arrived at the entrance [veh]."""
        return self._column("arrivals")

    @property
    def pressure(self) -> NDArray[np.floating]:
        """Vehicles on the approach less those downstream by turning ratio: int N_i - sum_j ratio_ij N_j dt [veh s].

        Of a segment that leaves the network, its vehicles alone. Those who wait to enter are in `entrance`.

        Varaiya (2013), Transp. Res. C 36:177-195.
        """
        return self._column("pressure")


def copy_into(target: dict[str, NDArray[Any]], saved: dict[str, Any]) -> None:
    """Fill the arrays of `target` from `saved`; names, shapes and types must agree."""
    for name, array in target.items():
        if name not in saved:
            raise ValueError(f"the saved state lacks {name!r}; it has {', '.join(sorted(saved))}.")
        value = np.asarray(saved[name])
        if value.shape != array.shape or value.dtype != array.dtype:
            raise ValueError(
                f"the saved {name!r} is {value.dtype}{list(value.shape)}, "
                f"this solver needs {array.dtype}{list(array.shape)}."
            )
        array[...] = value
