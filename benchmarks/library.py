"""Every protocol that is shipped, carried out on a simulated bench from start to end.

Each gets a study of its own with two cells, loaded and run as `batterylab run --foreground` does
it: runner, guard, journal, seal. The instruments have no errors, so that the recordings can be
held against `protocol simulate` of the same two cells. Prints one line a protocol (bench time,
steps, recordings, how far charges and resistances lie from the simulation, processor time of all
processes) and a summary last; exit code 1 if a bar is missed.

    python benchmarks/library.py [--quick] [--only PROTOCOL[,PROTOCOL]] [--json FILE]

`--quick` shortens waits, storage, cycles and spectra as `SHORT` says, in a copy of the file in
the study, and leaves out those of `SLOW`; the steps and their order stay. A line says what was
shortened.
"""

import json
import re
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from bars import Line, options
from numpy.typing import NDArray

from batterylab.archive import find, read, verify
from batterylab.bench.allot import allot
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.clock import BenchClock
from batterylab.bench.loading import Loader, ScriptedHands
from batterylab.bench.process import run_here
from batterylab.bench.session import resolve
from batterylab.bench.setup import Bench
from batterylab.errors import BatterylabError
from batterylab.features import features_of
from batterylab.protocol import load, names
from batterylab.protocol.simulate import simulate
from batterylab.recording import Recording
from batterylab.simulated import process as simulated
from batterylab.simulated.population import draw_truths, read_simulation
from batterylab.simulated.world import IDEAL
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

CELLS = 2
#: what the quick run changes in the text of a protocol
SHORT = {
    "eis_sweep": {"to: 10 mHz": "to: 1 Hz"},
    "gbt_31484_cycle": {"times: 50": "times: 3"},
    "gbt_31486_charge_retention": {"days: 28 d": "days: 1 d"},
    "gbt_31486_high_temperature": {"wait: 5 h": "wait: 1 h"},
    "gbt_31486_low_temperature": {"wait: 24 h": "wait: 2 h"},
    "gbt_31486_retention_hot": {"days: 7 d": "days: 1 d"},
    "gbt_31486_storage": {"days: 28 d": "days: 1 d"},
    "iec_62660_1_capacity": {"wait: 16 h": "wait: 2 h"},
    "iec_62660_1_storage": {"days: 28 d": "days: 1 d", "wait: 12 h": "wait: 2 h"},
}
#: what the quick run leaves out: supplies are stepped every second, and these rest for weeks
SLOW = ("gbt_31486_rate_charge", "gbt_31486_rate_discharge", "self_discharge",
        "iec_62660_1_cycle_life")  # fmt: skip
CAPACITY_PERCENT = 0.1
RESISTANCE_PERCENT = 1.0
#: more than a channel of the frame gives: a supply of 120 A for each cell, stepped by the host
SUPPLIED = ("gbt_31486_rate_charge", "gbt_31486_rate_discharge")
#: the standard's fixture, in units of still air
COOLING = {"gbt_31486_rate_charge": 3, "gbt_31486_rate_discharge": 6}
#: what a meter reads, through relays
READ = ("eis_sweep",)
#: cells that may be as warm, as cold and as fast as the standards want them
WIDE = {
    "current: {max_charge: 5 A, max_discharge: 10 A}":
        "current: {max_charge: 10 A, max_discharge: 15 A}",
    "temperature: {min: 0 degC, max: 45 degC}": "temperature: {min: -25 degC, max: 65 degC}",
}  # fmt: skip
FRAME = 'cycler1: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{cycler}::SOCKET"}}'
SUPPLY = '{name}: {{model: ea_psb10000, address: "TCPIP::127.0.0.1::{port}::SOCKET"}}'
METERED = '''
  relays: {{model: keysight_34972a, address: "TCPIP::127.0.0.1::{relays}::SOCKET"}}
  impedance: {{model: hioki_bt4560, address: "TCPIP::127.0.0.1::{impedance}::SOCKET"}}'''
BENCH = """\
schema: batterylab.bench/1
name: library
instruments:
  {cyclers}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
channels:
{channels}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 70 degC, debounce: 3 samples}}
poll: 120 s
clock: "127.0.0.1:{clock}"
"""
CHANNEL = '  - {{name: "{name}", cycler: {cycler}, channel: {number}, temperature: "temps:{place}", chamber: chamber}}'  # noqa: E501


@dataclass(frozen=True)
class Row:
    """What became of one protocol."""

    protocol: str
    hours: float
    steps: int
    valid: int
    ended: str
    charge_percent: float
    resistance_percent: float | None
    cpu_s: float

    @property
    def met(self) -> bool:
        """Whether every recording is valid and complete, and as simulated."""
        return (
            self.valid == CELLS
            and self.ended == "complete"
            and self.charge_percent <= CAPACITY_PERCENT
            and (self.resistance_percent or 0.0) <= RESISTANCE_PERCENT
        )

    def line(self) -> Line:
        """Return it as a line of the table."""
        ohm = self.resistance_percent
        figure = (
            f"{self.hours:.1f} h, {self.steps} steps, {self.valid}/{CELLS} valid, {self.ended}, "
            f"{self.charge_percent:.4f} % of charge, "
            f"{'no resistance' if ohm is None else f'{ohm:.3f} % of resistance'}, "
            f"{self.cpu_s:.0f} s"
        )
        return Line(self.protocol, figure, "complete, 0.1 %, 1 %", self.met)


def shortened(protocol: str, folder: Path) -> None:
    """Write a copy of a shipped protocol into a study, shortened as `SHORT` says."""
    text = load(protocol).path.read_text(encoding="utf-8")
    for old, new in SHORT[protocol].items():
        assert old in text, (protocol, old)
        text = text.replace(old, new)
    (folder / "protocols" / f"{protocol}.yaml").write_text(text, encoding="utf-8")


def study_for(protocol: str, folder: Path, *, is_short: bool = False) -> Study:
    """Write a study of two cells on a bench without errors that can carry a protocol out."""
    needed = ("cycler", "second", "temps", "meter", "chamber", "clock", "relays", "impedance")
    ports = dict(zip(needed, simulated.free_ports(len(needed)), strict=True))
    write_study(folder, ports=ports, size=Size(1, 1, CELLS), protocols=(protocol,))
    if is_short and protocol in SHORT:
        shortened(protocol, folder)
    file = folder / "study.yaml"
    text = file.read_text()
    for old, new in WIDE.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    zeros = ", ".join(f"{name}: 0" for name in vars(IDEAL))
    with (folder / "simulation.yaml").open("a") as stream:
        stream.write(f"channels: {{{zeros}}}\ncooling: {COOLING.get(protocol, 1)}\n")
    if protocol in SUPPLIED:
        cyclers = [SUPPLY.format(name="supply1", port=ports["cycler"]),
                   SUPPLY.format(name="supply2", port=ports["second"])]  # fmt: skip
        seats = [("E-1", "supply1", 1), ("E-2", "supply2", 1)]
    else:
        cyclers = [FRAME.format(**ports) + (METERED.format(**ports) if protocol in READ else "")]
        seats = [("F-1", "cycler1", 101), ("F-2", "cycler1", 102)]
    channels = [CHANNEL.format(name=name, cycler=cycler, number=number, place=101 + place)
                for place, (name, cycler, number) in enumerate(seats)]  # fmt: skip
    if protocol in READ:
        channels = [line.replace("chamber: chamber}",
                                 f'chamber: chamber, meter: "impedance through relays:{place}"}}')
                    for place, line in enumerate(channels, 201)]  # fmt: skip
    (folder / "bench.yaml").write_text(
        BENCH.format(cyclers="\n  ".join(cyclers), channels="\n".join(channels), **ports)
    )
    return Study.open(folder)


def load_cells(study: Study) -> None:
    """Load every cell, as the scripted technician does."""
    bench = Bench.open(BenchFile.open(study.bench_path, study.cell_type), ("cycler", "meter"))
    try:
        assert isinstance(bench.clock, BenchClock)
        loader = Loader(study, bench, ScriptedHands(bench.clock), "library")
        channels = list(bench.file.channels.values())
        for channel, serial in allot(list(study.cells.values()), channels, 1).items():
            loader.load(serial, channel)
    finally:
        bench.close()


def carried_out(study: Study) -> dict[str, Recording]:
    """Run the study on its simulated bench; return the valid recordings by serial."""
    bench = simulated.start(study.path)
    try:
        load_cells(study)
        run_here(study, "library", takes_interrupt=False)
    finally:
        simulated.finish(bench)
    states = study.log.states()
    found = {}
    for entry in find(study.archive):
        verify(entry.path)
        recording = read(entry.path)
        if states.get(recording.seal, {}).get("state", "valid") == "valid":
            found[entry.serial] = recording
    return found


def moved_Ah(recording: Recording) -> NDArray[np.float64]:
    """Return the charge of each step."""
    ends = recording.columns["net_capacity_Ah"][[step.last_row for step in recording.steps]]
    return np.diff(ends, prepend=0.0)


def charges_apart(measured: Recording, expected: Recording) -> float:
    """Return how far charges of steps lie apart at most, in percent of the largest of them.

    Infinite if the steps are not the same, or did not end the same way.
    """
    said, simulated_ = ([(s.label, s.measure, s.ended_by) for s in each.steps]
                        for each in (measured, expected))  # fmt: skip
    if said != simulated_:
        return float("inf")
    ours, theirs = moved_Ah(measured), moved_Ah(expected)
    return 100.0 * float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def resistances_apart(measured: Recording, expected: Recording) -> float | None:
    """Return how far resistances of pulses lie apart at most, in percent; None without any.

    Infinite if there are not the same of them.
    """
    ours, theirs = ([(f.name, f.value) for f in features_of(each) if re.match("dcir_", f.name)]
                    for each in (measured, expected))  # fmt: skip
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        return float("inf")
    gaps = [abs(a / b - 1.0) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
    gaps += spectra_apart(measured, expected)
    return 100.0 * max(gaps) if gaps else None


def spectra_apart(measured: Recording, expected: Recording) -> list[float]:
    """Return how far impedances lie apart, as shares of their magnitude."""
    if "frequency_Hz" not in expected.columns:
        return []
    ours, theirs = (
        (r.columns["impedance_real_ohm"] + 1j * r.columns["impedance_imaginary_ohm"])[
            np.isfinite(r.columns["frequency_Hz"])]
        for r in (measured, expected)
    )  # fmt: skip
    return [float("inf")] if len(ours) != len(theirs) else list(np.abs(ours / theirs - 1.0))


def spent_s() -> float:
    """Return the processor time of this process and of those that it has waited for, in s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def tried(protocol: str, folder: Path, *, is_short: bool = False) -> Row:
    """Carry a protocol out and hold its recordings against simulations."""
    begun_s = spent_s()
    study = study_for(protocol, folder, is_short=is_short)
    found = carried_out(study)
    cpu_s = spent_s() - begun_s
    truths = draw_truths(read_simulation(folder / "simulation.yaml"), study.cells.values())
    resolved = resolve(study, protocol)
    if not found:
        raise BatterylabError(f"{protocol}: no recording is valid")
    charges, resistances = [], []
    for serial, recording in found.items():
        expected = simulate(resolved, truth=truths[serial])
        charges.append(charges_apart(recording, expected))
        resistances.append(resistances_apart(recording, expected))
    each = list(found.values())
    ohms = [value for value in resistances if value is not None]
    return Row(
        protocol,
        max(float(r.columns["test_time_s"][-1]) for r in each) / 3600.0,
        max(len(r.steps) for r in each),
        len(each),
        "; ".join(dict.fromkeys(str(r.provenance["ended"]) for r in each)),
        max(charges),
        max(ohms) if ohms else None,
        cpu_s,
    )


def line_of(protocol: str, *, is_short: bool = False) -> tuple[Line, Row | None]:
    """Return the line of a protocol, and its row if it was carried out."""
    with tempfile.TemporaryDirectory(prefix="batterylab-library-") as name:
        try:
            row = tried(protocol, Path(name), is_short=is_short)
        except BatterylabError as error:
            said = str(error).replace("\n", " ")
            return Line(protocol, f"not carried out: {said}", "complete", False), None
        line = row.line()
        if is_short and protocol in SHORT:
            line = replace(line, figure=f"{', '.join(SHORT[protocol].values())}; {line.figure}")
        return line, row


def main(arguments: list[str]) -> int:
    """Print one line a protocol and return the exit code."""
    asked = options(__doc__ or "", arguments, "only", "json")
    chosen = list(names())
    lines, rows = [], []
    if asked.only:
        chosen = asked.only.split(",")
    elif asked.quick:
        chosen = [name for name in chosen if name not in SLOW]
    for protocol in chosen:
        line, row = line_of(protocol, is_short=asked.quick)
        print(line, flush=True)
        lines.append(line)
        rows += [row] if row else []
    if asked.json:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        Path(asked.json).write_text(text, encoding="utf-8")
    missed = [line.name for line in lines if line.met is False]
    met = sum(row.met for row in rows)
    print(f"{len(lines)} protocols: {len(rows)} carried out, {met} met, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
