"""What liionpack says of two small packs of unequal cells: the figures of the tests.

Run in an environment of its own; liionpack asks for a PyBaMM of its own age:

    python3.10 -m venv peer
    peer/bin/pip install "pybamm==23.9" "casadi==3.6.3" "numpy==1.24.4" "scipy==1.10.1"
    peer/bin/pip install "pandas==2.0.3" "xarray==2023.8.0" networkx matplotlib scikit-spatial
    peer/bin/pip install tqdm plotly openpyxl lcapy redis ray textwrapper
    peer/bin/pip install --no-deps "liionpack==0.3.8"
    peer/bin/python benchmarks/pack_peer.py

Cells are Chen2020 in the single-particle model at 25 degC, from 90 % SOC, at C/5; capacities
differ by the electrode's height, resistances by the connection of each cell.
"""

import liionpack
import numpy as np
import pybamm
from numpy.typing import NDArray

Array = NDArray[np.float64]
CELL_A = 1.0
START = 0.9
STEP_s = 30.0


def solve(
    series: int, parallel: int, scale: list[float], connection_ohm: list[float], minutes: int
) -> tuple[Array, Array, Array]:
    """Return time, cell currents and cell voltages behind their connections."""
    netlist = liionpack.setup_circuit(
        Np=parallel, Ns=series, Rb=1e-9, Rc=1e-2, Ri=5e-2, V=4.0, I=CELL_A * parallel,
        configuration="series-groups",
    )  # fmt: skip
    netlist.loc[netlist.desc.str.startswith("Rc"), "value"] = np.array(connection_ohm)
    values = pybamm.ParameterValues("Chen2020")
    height = values["Electrode height [m]"]
    values.set_initial_stoichiometries(START)
    values.update({"Electrode height [m]": "[input]"})
    words = f"Discharge at {CELL_A * parallel} A for {minutes} minutes"
    found = liionpack.solve(
        netlist=netlist, parameter_values=values, output_variables=None, initial_soc=None,
        experiment=pybamm.Experiment([words], period=f"{STEP_s:g} seconds"),
        inputs={"Electrode height [m]": height * np.array(scale)},
    )  # fmt: skip
    current = found["Cell current [A]"]
    return found["Time [s]"], current, found["Terminal voltage [V]"] - current * connection_ohm


def cell() -> tuple[float, Array, Array]:
    """Return capacity and open-circuit voltage of the cell, over even steps of the SOC."""
    values, names = pybamm.ParameterValues("Chen2020"), pybamm.LithiumIonParameters()
    limits = pybamm.lithium_ion.ElectrodeSOHSolver(values, names).get_min_max_stoichiometries()
    x_0, x_100, y_100, y_0 = limits
    capacity_Ah = values.evaluate(names.n.Q_init) * (x_100 - x_0)
    steps = np.linspace(0.0, 1.0, 41)
    kelvin = 298.15
    potential_V = [
        float(values.evaluate(names.p.prim.U(pybamm.Scalar(y_0 + (y_100 - y_0) * s), kelvin)))
        - float(values.evaluate(names.n.prim.U(pybamm.Scalar(x_0 + (x_100 - x_0) * s), kelvin)))
        for s in steps
    ]
    return capacity_Ah, steps, np.array(potential_V)


def main() -> None:
    """Print the figures."""
    print("liionpack", liionpack.__version__, "PyBaMM", pybamm.__version__)
    capacity_Ah, steps, potential_V = cell()
    print("capacity", round(capacity_Ah, 5), "Ah; OCV", [round(float(v), 4) for v in potential_V])
    _, current, volts = solve(1, 4, [1.0] * 4, [0.03] * 4, 100)
    soc = START - np.cumsum(current[1:, 0]) * STEP_s / 3600.0 / capacity_Ah
    ohm = (np.interp(soc, steps, potential_V) - volts[1:, 0] - 0.03 * current[1:, 0]) / CELL_A
    print("resistance, 30 min to 90 min", round(float(np.mean(ohm[60:180])), 4), "ohm")
    time_s, current, _ = solve(1, 4, [1.02, 1.0, 0.97, 1.01], [0.020, 0.025, 0.030, 0.045], 100)
    print("1s4p, first share", np.round(current[1], 4))
    for at_s in (1800, 5400):
        place = int(np.argmin(abs(time_s - at_s)))
        charge = current[1 : place + 1].sum(axis=0) * STEP_s / 3600.0
        print(f"1s4p, {at_s} s: A", np.round(current[place], 4), "Ah", np.round(charge, 4))
    for scale in ([1.03, 0.95, 1.0, 1.01], [0.9975] * 4):
        time_s, _, volts = solve(2, 2, scale, [0.025] * 4, 300)
        lowest = volts.min(axis=1)
        place = int(np.argmax(lowest < 3.0))
        part = (lowest[place - 1] - 3.0) / (lowest[place - 1] - lowest[place])
        print("2s2p", scale, "to 3.0 V:", round(time_s[place - 1] + STEP_s * part, 1), "s")


if __name__ == "__main__":
    main()
