"""Parameters of the two-class traffic model, in SI units, with where each value comes from.

Classes: m = motorcycles, c = cars. Matrices are written row by row: the first index is the class that is slowed.

"The West-African set" is one for cities there: rho_jam = 250 veh/km, alpha = 0.4, gamma = 1.5 and 2, tau = 5 s and
10 s, K = 10 km/h and 15 km/h, each pair for motorcycles and cars.
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
    """Density at which traffic stands [veh/m]; 250 veh/km, the West-African set."""
    a_mm: float = 1.0
    """Weight of motorcycles in what a motorcycle perceives as occupied [-]; defines the unit."""
    a_mc: float = 0.4
    """Weight of cars in what a motorcycle perceives [-]; alpha of the West-African set: they filter between cars."""
    a_cm: float = 1.0
    """Weight of motorcycles in what a car perceives [-]; its total density counts, as in the West-African set."""
    a_cc: float = 1.0
    """Weight of cars in what a car perceives [-]; likewise."""
    tau_m: float = 5.0
    """Relaxation time of motorcycles [s]; the West-African set."""
    tau_c: float = 10.0
    """Relaxation time of cars [s]; the West-African set."""
    k_m: float = 22.0
    """Closure arz: pressure coefficient of motorcycles [m/s]. The set's 10 km/h lets them stand at 915 veh/km; with at
    least the free speed (here up to 79 km/h) jams are no denser than rho_jam, see `jam_densities`."""
    k_c: float = 20.0
    """Closure arz: pressure coefficient of cars [m/s]; likewise, for up to 72 km/h instead of the set's 15 km/h."""
    gamma_m: float = 1.5
    """Closure arz: pressure exponent of motorcycles [-]; one of 1, 1.5, 2, 3. The West-African set."""
    gamma_c: float = 2.0
    """Closure arz: pressure exponent of cars [-]; one of 1, 1.5, 2, 3. The West-African set."""

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

    def jam_densities(self, w_m: float, w_c: float) -> tuple[float, float]:
        """Densities [veh/m] at which each class alone stands while its drivers have w_m, w_c [m/s].

        garz: rho_jam / a_ii whatever w is. arz: p_i(rho) = w_i, thus rho_jam / a_ii (w_i / k_i)**(1 / gamma_i), no more
        than that as long as k_i >= w_i. jamiton: rho_jam, where its hesitation is infinite.
        """
        alone = (self.rho_jam / self.a_mm, self.rho_jam / self.a_cc)
        if self.closure != "arz":
            return alone
        return alone[0] * (w_m / self.k_m) ** (1 / self.gamma_m), alone[1] * (w_c / self.k_c) ** (1 / self.gamma_c)

    def stable_from(self, v_free_m: float, v_free_c: float) -> tuple[float, float]:
        """Occupancies O_i [-] from which uniform flow of each class alone is stable: the sub-characteristic condition.

        Below them p_i' < -V_e,i' and perturbations grow into stop-and-go waves; 0 where all flow is stable, above 1
        where none is. garz relaxes to V(rho, w_eq) itself: the condition holds with equality everywhere. arz, with
        V_e,i = v_free,i (1 - O_i): gamma_i k_i O_i**(gamma_i - 1) >= v_free,i.

        Whitham (1974), Linear and Nonlinear Waves, ch. 3 and 10; Seibold et al. (2013), Netw. Heterog. Media 8(3):745.
        """
        if self.closure == "garz":
            return 0.0, 0.0
        if self.closure == "jamiton":
            raise ParameterError("closure 'jamiton' is unstable between two densities on purpose; ask garz or arz.")
        return (
            _steep_from(v_free_m / self.k_m, self.gamma_m),
            _steep_from(v_free_c / self.k_c, self.gamma_c),
        )

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


def _steep_from(ratio: float, gamma: float) -> float:
    """The smallest O >= 0 with gamma O**(gamma - 1) >= ratio; infinity if there is none."""
    if gamma == 1.0:
        return 0.0 if ratio <= 1.0 else math.inf
    return (ratio / gamma) ** (1.0 / (gamma - 1.0))
