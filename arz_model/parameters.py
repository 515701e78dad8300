"""Parameters of the two-class traffic model, in SI units, with where each value comes from.

Classes: m = motorcycles, c = cars. Matrices are written row by row: the first index is the class that is slowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CLOSURES = ("garz", "arz", "jamiton")
CLASSES = ("m", "c")


class ParameterError(ValueError):
    """Raised when a parameter, a network or a scenario is impossible; the message names the value."""


@dataclass(frozen=True)
class Parameters:
    """What the drivers are like; what the roads are like (free speeds, lengths) belongs to the network.

    Closure ``garz`` (the default):  v_i = w_i max(0, 1 - O_i),  O_i = sum_j a_ij rho_j / rho_jam.
    Closure ``arz``:                 v_i = w_i - p_i,            p_i = k_i (O_i)**gamma_i.
    Closure ``jamiton``: the single-class set-up of a published instability, for validation (physics.make_jamiton).

    References
    ----------
    Aw & Rascle (2000), SIAM J. Appl. Math. 60(3):916-938 (additive closure).
    Fan, Herty & Seibold (2014), Netw. Heterog. Media 9(2):239-268 (generalised closure v = V(rho, w)).
    """

    closure: str = "garz"
    """One of CLOSURES."""
    rho_jam: float = 0.25
    """Density at which traffic stands [veh/m]; 250 veh/km, the value of the West-African data set."""
    a_mm: float = 1.0
    """Weight of motorcycles in what a motorcycle perceives as occupied [-]; defines the unit."""
    a_mc: float = 0.4
    """Weight of cars in what a motorcycle perceives [-]; below 1, motorcycles filter between cars."""
    a_cm: float = 1.0
    """Weight of motorcycles in what a car perceives [-]."""
    a_cc: float = 1.0
    """Weight of cars in what a car perceives [-]."""
    tau_m: float = 5.0
    """Relaxation time of motorcycles [s]; the published pair is 5 s and 10 s."""
    tau_c: float = 10.0
    """Relaxation time of cars [s]."""
    k_m: float = 22.0
    """Closure arz: pressure coefficient of motorcycles [m/s]; at least the free speed, else jams overfill."""
    k_c: float = 20.0
    """Closure arz: pressure coefficient of cars [m/s]."""
    gamma_m: float = 1.5
    """Closure arz: pressure exponent of motorcycles [-]; one of 1, 1.5, 2, 3."""
    gamma_c: float = 2.0
    """Closure arz: pressure exponent of cars [-]; one of 1, 1.5, 2, 3."""

    def __post_init__(self) -> None:
        if self.closure not in CLOSURES:
            raise ParameterError(f"closure must be one of {', '.join(CLOSURES)}; got {self.closure!r}.")
        for name in ("rho_jam", "a_mm", "a_cc", "tau_m", "tau_c", "k_m", "k_c"):
            if not getattr(self, name) > 0.0:
                raise ParameterError(f"{name} must be positive; got {getattr(self, name)!r}.")
        for name in ("a_mc", "a_cm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ParameterError(f"{name} must be finite and not negative; got {value!r}.")
        for name in ("rho_jam", "a_mm", "a_cc", "k_m", "k_c"):
            if not math.isfinite(getattr(self, name)):
                raise ParameterError(f"{name} must be finite; got {getattr(self, name)!r}.")
        for name in ("gamma_m", "gamma_c"):
            if getattr(self, name) not in (1.0, 1.5, 2.0, 3.0):
                raise ParameterError(f"{name} must be 1, 1.5, 2 or 3; got {getattr(self, name)!r}.")
        if self.a_mm * self.a_cc < self.a_mc * self.a_cm:
            raise ParameterError(
                "a_mm a_cc must be at least a_mc a_cm, or information would travel faster than traffic "
                f"(anisotropy); got {self.a_mm * self.a_cc:g} < {self.a_mc * self.a_cm:g}."
            )
        if self.a_cm < self.a_mm and self.a_mc < self.a_cc:
            raise ParameterError(
                "one class must perceive the road at least as full as both classes perceive their own kind "
                "(a_cm >= a_mm or a_mc >= a_cc), or jams would move backwards faster than w; "
                f"got a_cm = {self.a_cm:g} < {self.a_mm:g} and a_mc = {self.a_mc:g} < {self.a_cc:g}."
            )

    @property
    def rho_full(self) -> float:
        """Largest total density of both classes [veh/m]: cars at their jam density, motorcycles in the room between."""
        cars = self.rho_jam / self.a_cc
        between = max(0.0, self.rho_jam - self.a_mc * cars) / self.a_mm
        return max(self.rho_jam / self.a_mm, cars + between)

    def fastest_wave(self, w_max: float) -> float:
        """Bound of all |wave speeds| [m/s] while no w exceeds `w_max`.

        garz: w_max. arz: where v_i >= 0, p_i <= w_max, so that rho_i dp_i/drho_i <= gamma_i w_max, and no eigenvalue is
        below minus the sum over the classes. jamiton: its own constants over densities up to 0.95.
        """
        if self.closure == "garz":
            return w_max
        if self.closure == "arz":
            return max(w_max, (self.gamma_m + self.gamma_c) * w_max)
        return max(w_max, 75.0)
