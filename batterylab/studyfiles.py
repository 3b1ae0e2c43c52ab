"""Write a new study's commented files, and check all files of a study at once."""

from dataclasses import dataclass
from pathlib import Path

from batterylab.errors import BatterylabError, EnvironmentFailedError, Problem, ProblemsError
from batterylab.study import Study
from batterylab.yamlfile import load_yaml

STUDY = """\
# The question being asked. Quantities carry units: 4.2 V, 5 Ah, 32 mOhm, 25 degC.
schema: batterylab.study/1
name: {name}

cell_type:                        # the data sheet
  name: P5000
  nominal_capacity: 5.0 Ah        # C/3 means a third of this, in A
  rated_capacity: 4.95 Ah         # what the supplier promises
  voltage: {{min: 2.5 V, max: 4.2 V}}
  current: {{max_charge: 5 A, max_discharge: 10 A}}
  temperature: {{min: 0 degC, max: 45 degC}}
  chemistry: NMC

suppliers:                        # the lot of each cell stands in cells.csv
{suppliers}

protocols: [{protocols}]   # `batterylab protocol list`

limits:                           # decision_rule: simple | guarded acceptance | guarded rejection
  - {{feature: capacity_Ah, lower: 4.95 Ah, upper: 5.45 Ah, decision_rule: simple}}
  - {{feature: dcir_10s_mOhm, upper: {resistance}}}
rules: [gbt_31486_2024]           # acceptance rules of standards

equivalence:                      # the largest difference between suppliers of no account
  - {{feature: capacity_Ah, margin: 0.5 %}}
weights:                          # for the weighted score: worth 0 at worst, 1 at best
  - {{feature: capacity_Ah, weight: 2, worst: 4.95 Ah, best: 5.25 Ah}}
  - {{feature: dcir_10s_mOhm, weight: 1, worst: {resistance}, best: 25 mOhm}}
costs: {{currency: EUR, cells: 100000, bad_cell_accepted: 40, good_cell_refused: 4, per_Wh: 0.1}}
temperature: {{at: 25 degC, within: 5 degC, otherwise: list}}   # of the cell in the capacity test

gauge: {{protocol: gauge_check, cells: 6, channels: 4, repeats: 2}}   # measures the bench
pack: {{series: 96, parallel: 1}}
which_recording: last valid       # fixed before there is data
"""

BENCH = """\
# The bench. Addresses are VISA resource names; `batterylab bench check` tries each of them.
schema: batterylab.bench/1
instruments:
  cycler1: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{cycler}::SOCKET", serial: MY58000516}}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
channels:
  - {{name: "1-{{n}}", cycler: cycler1, channel: "{{100+n}}", temperature: "temps:{{100+n}}", chamber: chamber, shelf: 1, for: 1..20}}
  - {{name: "1-{{n}}", cycler: cycler1, channel: "{{100+n}}", temperature: "temps:{{180+n}}", chamber: chamber, shelf: 1, for: 21..32}}
  - {{name: "2-{{n}}", cycler: cycler1, channel: "{{200+n}}", temperature: "temps:{{212+n}}", chamber: chamber, shelf: 2, for: 1..8}}
  - {{name: "2-{{n}}", cycler: cycler1, channel: "{{200+n}}", temperature: "temps:{{292+n}}", chamber: chamber, shelf: 2, for: 9..16}}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}}
poll: {poll_s:g} s                        # the cycler logs every second and stops by itself between polls
# The simulated bench owns the clock. On a real bench leave this line out.
clock: "127.0.0.1:{clock}"
"""

BENCH_ALL = """\
# One of every model that the bench knows. Addresses are VISA resource names.
schema: batterylab.bench/1
name: all models
instruments:
  frame: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{frame}::SOCKET"}}
  supply: {{model: ea_psb10000, address: "TCPIP::127.0.0.1::{supply}::SOCKET"}}   # sample: 0.1 s for ten a second
  itech: {{model: itech_m3900, address: "TCPIP::127.0.0.1::{itech}::SOCKET"}}
  smu: {{model: keithley_2460, address: "TCPIP::127.0.0.1::{smu}::SOCKET", stop_port: {smu_stop}}}
  small: {{model: keithley_2450, address: "TCPIP::127.0.0.1::{small}::SOCKET", stop_port: {small_stop}}}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  more_temps: {{model: keysight_34970a, alarm_line: 1, address: "TCPIP::127.0.0.1::{more_temps}::SOCKET"}}
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}
  impedance: {{model: hioki_bt4560, address: "TCPIP::127.0.0.1::{impedance}::SOCKET"}}
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
  second_chamber: {{model: espec_p300, address: "TCPIP::127.0.0.1::{second_chamber}::SOCKET"}}
channels:                         # a supply that the host steps is one channel
  - {{name: "F-{{n}}", cycler: frame, channel: "{{100+n}}", temperature: "temps:{{100+n}}", chamber: chamber, shelf: 1, meter: "impedance through more_temps:{{200+n}}", for: 1..4}}
  - {{name: E-1, cycler: supply, temperature: "temps:105", chamber: chamber, shelf: 2}}
  - {{name: I-1, cycler: itech, temperature: "temps:106", chamber: chamber, shelf: 2}}
  - {{name: K-1, cycler: smu, temperature: "more_temps:107", chamber: second_chamber, shelf: 3}}
  - {{name: S-1, cycler: small, temperature: "more_temps:108", chamber: second_chamber, shelf: 3}}
interlocks:                       # a voltage that is there while all is well
  door: {{input: "temps:320", safe: [4 V, 6 V]}}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}}
poll: {poll_s:g} s
# The simulated bench owns the clock. On a real bench leave this line out.
clock: "127.0.0.1:{clock}"
"""

BENCH_IMPEDANCE = """\
# A cycler whose cells a meter reaches during a run, through relays. Addresses are VISA resource names.
schema: batterylab.bench/1
name: impedance
instruments:
  cycler1: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{cycler}::SOCKET"}}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  relays: {{model: keysight_34972a, address: "TCPIP::127.0.0.1::{relays}::SOCKET"}}
  impedance: {{model: hioki_bt4560, address: "TCPIP::127.0.0.1::{impedance}::SOCKET"}}   # wired to the relays
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}          # its pins, at loading
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
channels:                         # relay 201 switches the current leads of channel 1, 211 its sense leads
  - {{name: "1-{{n}}", cycler: cycler1, channel: "{{100+n}}", temperature: "temps:{{100+n}}", chamber: chamber, shelf: 1, meter: "impedance through relays:{{200+n}}", for: 1..8}}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}}
poll: {poll_s:g} s
# The simulated bench owns the clock. On a real bench leave this line out.
clock: "127.0.0.1:{clock}"
"""

GENTLE = """\
schema: batterylab.protocol/1
name: gentle_check
description: a short look at a cell that every model can take, the smallest gives 1 A
chamber: {temperature: 25 degC, within: 2 degC, soak: 10 min}
stop:
  - {when: temperature, above: 45 degC}
steps:
  - rest: {for: 1 min}
  - discharge: {current: 0.9 A, for: 10 s, sample_every: 1 s}
    measure: dcir_10s
  - rest: {for: 2 min}
  - charge: {current: 0.9 A, until: 3.65 V, hold_until: 0.5 A, at_most: 2 h}
    measure: part
  - discharge: {current: 0.8 A, until: 3.55 V, at_most: 2 h}
  - rest: {for: 2 min}
record: {every: 30 s, or_when: {voltage_moves: 5 mV}}
"""

SIMULATION = """\
# Only for the simulated bench (`batterylab bench simulate`): who the cells really are.
schema: batterylab.simulation/1
seed: {seed}
start: "2026-01-05T06:00:00+00:00"
suppliers:                        # capacity_offset_percent is relative to the base cell
{suppliers}
"""
#: of the bench above
CHANNELS = 48
NAMES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon", "Zeta", "Eta", "Theta")
STEP_PERCENT = 1.5

PORTS = {"cycler": 15025, "temps": 15026, "meter": 15023, "chamber": 12049, "clock": 15000}
PORTS_ALL = {"frame": 15025, "temps": 15026, "supply": 15027, "itech": 15028, "smu": 15029,
             "small": 15030, "smu_stop": 15031, "small_stop": 15032, "more_temps": 15033,
             "meter": 15023, "impedance": 15034, "chamber": 12049, "second_chamber": 12050,
             "clock": 15000}  # fmt: skip

@dataclass(frozen=True)
class Size:
    """How large a new study is: suppliers, lots of each, cells of each lot."""

    suppliers: int = 2
    lots: int = 3
    cells: int = 8

    def __post_init__(self) -> None:
        for name, value, most in (
            ("suppliers", self.suppliers, len(NAMES)), ("lots", self.lots, 26),
            ("cells", self.cells, 256),
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise BatterylabError(f"{name}: {value}", hint=f"between 1 and {most}")

    def names(self) -> dict[str, list[str]]:
        """Return the lots of each supplier."""
        return {
            name: [f"{name[0] if name != 'Eta' else 'H'}{n}" for n in range(1, self.lots + 1)]
            for name in NAMES[: self.suppliers]
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Return serial, supplier and lot of each cell."""
        return [
            (f"{lot}-{n:03d}", supplier, lot)
            for supplier, lots in self.names().items()
            for lot in lots
            for n in range(1, self.cells + 1)
        ]


PROTOCOLS = ("incoming_inspection", "capacity_resistance")
PORTS_IMPEDANCE = {"cycler": 15025, "temps": 15026, "relays": 15033, "meter": 15023,
                   "impedance": 15034, "chamber": 12049, "clock": 15000}  # fmt: skip
LAYOUTS = {"one": (BENCH, PORTS), "all": (BENCH_ALL, PORTS_ALL),
           "impedance": (BENCH_IMPEDANCE, PORTS_IMPEDANCE)}  # fmt: skip
#: how many cells, and which protocols, where nobody says so
USUAL = {"one": (Size(), PROTOCOLS), "all": (Size(2, 1, 4), ("gentle_check",)),
         "impedance": (Size(2, 1, 4), ("eis_sweep",))}  # fmt: skip


def write_study(
    folder: Path,
    *,
    seed: int = 1,
    ports: dict[str, int] | None = None,
    size: Size | None = None,
    protocols: tuple[str, ...] = PROTOCOLS,
    poll_s: float = 10.0,
    bench: str = "one",
) -> list[Path]:
    """Write a study that runs on a simulated bench, with comments that teach.

    Parameters
    ----------
    folder : Path
        Must not hold a study yet.
    seed : int
        Of the simulated cells.
    ports : dict of str to int, optional
        Of the simulated instruments on this machine; free ones are the caller's business.
    size : Size, optional
        Suppliers, lots and cells; the suppliers' capacities lie 1.5 % apart.
    protocols : tuple of str
        What is done to each cell.
    poll_s : float
        How often the runner looks.
    bench : str
        ``one`` cycler with 48 channels; ``all``: one of every model, for eight cells;
        ``impedance``: eight channels that a meter reaches during a run.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    BatterylabError
        If one of the files already exists.
    EnvironmentFailedError
        If the disk refuses.
    """
    folder = Path(folder)
    size = size or USUAL[bench][0]
    if protocols == PROTOCOLS:
        protocols = USUAL[bench][1]
    names = size.names()
    layout, usual = LAYOUTS[bench]
    texts = {
        "study.yaml": STUDY.format(
            name=folder.resolve().name,
            suppliers="\n".join(
                f"  - {{name: {name}, lots: [{', '.join(lots)}]}}" for name, lots in names.items()
            ),
            protocols=", ".join(protocols),
            resistance="55 mOhm" if "gentle_check" in protocols else "45 mOhm",
        ),
        "bench.yaml": layout.format(poll_s=poll_s, **(ports or usual)),
        "simulation.yaml": SIMULATION.format(seed=seed, suppliers=_offsets(list(names))),
        "cells.csv": _cells(size),
    }
    if bench == "all":  # the smallest supply cannot carry the gauge study out
        lines = texts["study.yaml"].splitlines(keepends=True)
        texts["study.yaml"] = "".join(line for line in lines if not line.startswith("gauge:"))
        texts["protocols/gentle_check.yaml"] = GENTLE
    taken = [name for name in texts if (folder / name).exists()]
    if taken:
        raise BatterylabError(
            f"{folder}: {taken[0]} exists already",
            hint="choose another folder; nothing was written",
        )
    try:
        (folder / "protocols").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailedError(f"{folder}: cannot be written: {error}") from None
    return [folder / name for name in texts]


def _offsets(names: list[str]) -> str:
    """Return how the suppliers' cells differ: the first is best, each next one 1.5 % lower."""
    middle = (len(names) - 1) / 2
    return "\n".join(
        f"  {name}: {{capacity_offset_percent: {STEP_PERCENT * (middle - k):g}, "
        "sigma_lot_percent: 0.2, sigma_cell_percent: 0.25}"
        for k, name in enumerate(names)
    )


def _cells(size: Size) -> str:
    header = "serial,supplier,lot,incoming_ocv_V,incoming_ac_resistance_mOhm,mass_g"
    lines = [f"{serial},{supplier},{lot},3.582,13.4," for serial, supplier, lot in size.rows()]
    return "\n".join([header, *lines]) + "\n"


def check_study(folder: Path) -> list[Problem]:
    """Return every mistake in a study's files: its own, its bench's, its protocols'.

    Raises
    ------
    BatterylabError
        If there is no study in the folder.
    """
    problems: list[Problem] = []
    study: Study | None = None
    try:
        study = Study.open(folder)
    except ProblemsError as error:
        problems += error.problems
    if study is not None:
        problems += _bench_problems(study) + _protocol_problems(study) + _log_problems(study)
        if not study.cells and not any(study.archive.glob("tables/*")):
            problems.append(
                Problem("cells.csv:1", "there are no cells", "one line a cell: serial,supplier,lot")
            )
    return problems


def _bench_problems(study: Study) -> list[Problem]:
    from batterylab.bench.benchfile import BenchFile

    if not study.bench_path.exists():
        return []
    try:
        BenchFile.open(study.bench_path, study.cell_type)
    except ProblemsError as error:
        return list(error.problems)
    except BatterylabError as error:
        return [Problem("bench.yaml:1", error.message, error.hint or "")]
    return []


def _protocol_problems(study: Study) -> list[Problem]:
    from batterylab.bench.abilities import abilities_in
    from batterylab.protocol import load
    from batterylab.protocol.check import check

    try:
        bench = abilities_in(study.path)
    except BatterylabError:  # what is wrong with the bench file is told elsewhere
        bench = None
    problems: list[Problem] = []
    document = load_yaml(study.path / "study.yaml")
    names = {document.where("protocols", i): name
             for i, name in enumerate(study.definition.protocols)}  # fmt: skip
    if study.definition.gauge:
        names[document.where("gauge", "protocol")] = study.definition.gauge.protocol
    for where, name in names.items():
        try:
            resolved = load(name, search=[study.protocols_folder]).resolve(study.cell_type)
            problems += check(resolved, bench).problems
        except ProblemsError as error:
            problems += error.problems
        except BatterylabError as error:
            problems.append(Problem(where, error.message, error.hint or ""))
    return problems


def _log_problems(study: Study) -> list[Problem]:
    try:
        study.log.verify()
    except BatterylabError as error:
        return [Problem("log", error.message, error.hint or "")]
    return []


