"""python -m arz_model.sumo NETWORK DEMAND... --output SCENARIO.toml"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from arz_model.parameters import ParameterError
from arz_model.sumo.convert import import_sumo
from arz_model.sumo.files import SumoError


def main() -> int:
    """Import a SUMO network and say what is not carried over; 1 where that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m arz_model.sumo", description="Turn a SUMO network into a scenario."
    )
    parser.add_argument("network", type=Path, help="a .net.xml or .net.xml.gz")
    parser.add_argument("demand", type=Path, nargs="+", help="routes, flows or trips: .rou.xml files")
    parser.add_argument("--output", type=Path, required=True, help="the scenario's TOML file; it must not exist")
    parser.add_argument("--begin-s", type=float, help="first departure that counts [s]; default: the first there is")
    parser.add_argument("--end-s", type=float, help="end of the departures that count [s]; default: an hour later")
    asked = parser.parse_args()
    try:
        found = import_sumo(asked.network, asked.demand, begin_s=asked.begin_s, end_s=asked.end_s)
        from arz_model.control import scenarios  # compiles: only for files that could be read

        scenario = scenarios.parse(found.text, asked.output.stem)
        with asked.output.open("x", encoding="utf-8") as stream:
            stream.write(found.text)
    except FileExistsError:
        sys.stderr.write(f"{asked.output} exists; name another file or remove it.\n")
        return 1
    except (SumoError, ParameterError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    n_roads, n_signals = len(scenario.network.segments), len(scenario.intersections)
    arriving = scenario.expected_arrivals / scenario.duration * 3600.0
    sys.stdout.write(f"{asked.output}: {n_roads} roads, {n_signals} signals, {arriving:.0f} vehicles/h.\n")
    sys.stdout.write("Not carried over:\n" + "".join(f"- {note}\n" for note in found.not_carried_over))
    return 0


if __name__ == "__main__":
    sys.exit(main())
