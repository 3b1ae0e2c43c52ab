"""Carry a protocol out on a simulated cell: a recording like any other, without a bench.

Two engines drive the cell. ``own`` is our single-particle kernel; ``pybamm`` is PyBaMM on a
refined mesh. Both decide what comes next through `Progress`, as the bench does, and both end
steps at whole seconds, as a cycler that samples every second does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batterylab.cells import CellType
from batterylab.errors import BatterylabError
from batterylab.protocol import Resolved
from batterylab.protocol.simrun import Engine, ROOM_degC, Run
from batterylab.recording import Recording

if TYPE_CHECKING:
    from batterylab.simulated.cell import CellTruth

ENGINES = ("own", "pybamm")
MODELS = ("spm", "spme", "dfn")
#: where a simulated cell's clock starts, unless told otherwise: equal inputs give equal seals
START_s = 946684800.0
#: state of charge as delivered, the same as on the simulated bench
DELIVERED_SOC = 0.30
#: the area is scaled so that a cell holds a little more than its rated capacity, as on the bench
AREA_SCALE = 1.005
#: contact resistance of a cell of 5 Ah; larger cells have wider tabs
CONTACT_ohm_Ah = 0.008 * 5.0
EXACT = {"reading": 0.0, "offset": 0.0}


def make_engine(
    name: str,
    resolved: Resolved,
    parameter_set: str = "Chen2020",
    soc: float = DELIVERED_SOC,
    truth: "CellTruth | None" = None,
    model: str = "spme",
    cooling: float = 1.0,
) -> Engine:
    """Return a cell of a parameter set, scaled to the cell type, in one of the engines.

    Parameters
    ----------
    name : str
        ``own`` or ``pybamm``.
    resolved : Resolved
        Gives cell type, ambient temperature and limits.
    parameter_set : str
        A full-cell set that PyBaMM ships.
    soc : float
        State of charge at the start, 0 to 1.
    truth : CellTruth, optional
        How the cell deviates from the set; for ``own`` only.
    model : str
        ``spm``, ``spme`` or ``dfn``.
    cooling : float
        How much better the fixture takes the heat than the set's still air; with no `truth`.

    Raises
    ------
    BatterylabError
        If engine, model or set is unknown, or the cell cannot be what the cell type says.
    """
    from batterylab.simulated.cell import CellTruth, SimulatedCell
    from batterylab.simulated.fullcell import FullCell

    if name not in ENGINES:
        raise BatterylabError(f"unknown engine {name!r}", hint=f"known: {', '.join(ENGINES)}")
    if not 0.0 <= soc <= 1.0:
        raise BatterylabError(f"the state of charge {100 * soc:g} % is none", hint="0 % to 100 %")
    if model not in MODELS:
        raise BatterylabError(f"unknown model {model!r}", hint=f"known: {', '.join(MODELS)}")
    kind = resolved.cell_type
    if truth is not None and name != "own":
        raise BatterylabError(f"the engine {name!r} knows the base cell only", hint="engine own")
    if not 0.01 <= cooling <= 1000:
        raise BatterylabError(f"cooling {cooling:g} is none", hint="1 in still air, 5 in a fixture")
    contact_ohm = CONTACT_ohm_Ah / kind.nominal_capacity_Ah
    truth = truth or CellTruth(contact_ohm=contact_ohm, cooling=cooling)
    scale = AREA_SCALE * kind.nominal_capacity_Ah / _nominal_Ah(parameter_set)
    cell = (
        FullCell(truth, parameter_set, scale) if name == "own" and model == "dfn"
        else SimulatedCell(truth, parameter_set, model, scale)
    )  # fmt: skip
    degC = ROOM_degC if resolved.temperature_degC is None else resolved.temperature_degC
    at_rest = cell.at_rest(soc, _window(kind))
    if name == "own":
        from batterylab.protocol.owncell import OwnEngine

        return OwnEngine(cell, at_rest, degC, resolved.voltage_limits_V)
    from batterylab.protocol.pybammcell import PybammEngine

    return PybammEngine(cell, at_rest, degC, resolved.voltage_limits_V)


def _window(kind: CellType) -> tuple[float, float]:
    return kind.voltage_min_V, kind.voltage_max_V


def _nominal_Ah(parameter_set: str) -> float:
    from batterylab.fit.celltables import cell_tables

    return cell_tables(parameter_set).numbers["capacity_Ah"]


def simulate(
    resolved: Resolved,
    *,
    parameter_set: str = "Chen2020",
    engine: str = "own",
    model: str = "spme",
    cooling: float = 1.0,
    soc: float = DELIVERED_SOC,
    serial: str = "simulated",
    start_s: float = START_s,
    truth: "CellTruth | None" = None,
    report: Callable[[float], None] | None = None,
) -> Recording:
    """Carry a resolved protocol out on a simulated cell.

    Parameters
    ----------
    resolved : Resolved
        The protocol for a cell type; the cell is scaled to its nominal capacity.
    parameter_set : str
        A full-cell set that PyBaMM ships.
    engine : str
        ``own`` or ``pybamm``.
    model : str
        ``spm``, ``spme`` or ``dfn``.
    cooling : float
        How much better the fixture takes the heat than the set's still air.
    soc : float
        State of charge at the start, 0 to 1.
    serial : str
        What the cell is called.
    start_s : float
        Unix time at which the recording begins.
    truth : CellTruth, optional
        How the cell deviates from the set; for ``own`` only.
    report : callable, optional
        Gets the share that is done, 0 to 1, after every step.

    Returns
    -------
    Recording
        ``provenance["source"]`` is ``simulation``; ``provenance["ended"]`` is ``complete``, or
        says why the protocol was stopped, as the bench would have.

    Raises
    ------
    BatterylabError
        If engine, model or set is unknown, or the cell cannot be simulated.
    """
    cell = make_engine(engine, resolved, parameter_set, soc, truth, model, cooling)
    run = Run(resolved, cell, start_s, report)
    run.go()
    return Recording(
        serial=serial,
        supplier="simulation",
        lot=parameter_set,
        protocol=resolved.name,
        columns=run.columns(),
        steps=run.rows,
        cell_type=resolved.cell_type.to_dict(),
        protocol_resolved=resolved.to_dict(),
        provenance=_provenance(run, engine, model, parameter_set, soc, cooling),
    ).checked()


def _provenance(
    run: Run, engine: str, model: str, parameter_set: str, soc: float, cooling: float
) -> dict[str, Any]:
    from importlib.metadata import version

    from batterylab import __version__
    from batterylab.studylog import utc_text

    return {
        "source": "simulation",
        "start_utc": utc_text(run.start_s),
        "software": f"batterylab {__version__}",
        "engine": engine,
        "model": model,
        "parameters": parameter_set,
        "pybamm": version("pybamm"),
        "initial_soc": soc,
        "cooling": cooling,
        "channel": "simulation",
        "accuracy": dict.fromkeys(("current_A", "voltage_V", "temperature_degC"), EXACT),
        "part": "main",
        "ended": f"stopped: {run.failure}" if run.failure else "complete",
        "remarks": run.progress.remarks,
        **({"marks": run.progress.marks} if run.progress.marks else {}),
        **({"readings": run.readings} if run.readings else {}),
    }
