"""Faults of instruments in the middle of a run, and how soon a limit stops a channel."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from bars import Line
from faults_rig import SAFE_A, Rig, rig, wait_for

from batterylab.bench import session
from batterylab.errors import BatterylabError
from batterylab.recording import Recording
from batterylab.simulated.faults import FAULTS

#: two minutes of bench time, with every kind of step
SHORT = """\
schema: batterylab.protocol/1
name: short
steps:
  - rest: {for: 10 s}
  - charge: {current: 0.8 A, for: 40 s}
  - rest: {for: 5 s}
  - discharge: {current: 0.8 A, for: 40 s}
  - rest: {for: 10 s}
record: {every: 1 s}
"""
#: by letter of the channel: the instrument, and what a line of its readings contains
MODELS = {"F": ("frame", "LOG"), "E": ("e1", "MEAS"), "I": ("i1", "MEAS"), "K": ("k1", "READ"),
          "S": ("s1", "READ"), "T": ("temps", "READ")}  # fmt: skip
#: what a model cannot have; a scanner has no output, and a frame no front panel
LACKS = {"F": ("local control",), "T": ("local control", "wrong polarity")}
FIGURES = ("unix_time_s", "current_A", "voltage_V", "temperature_degC")
AT_s = 30.0
#: models that end by themselves when nobody talks to them any more, and when at the latest
BOUNDED, WATCHDOG_s = "FE", 3600.0
#: faults that switch the output off
ENDING = ("power cycle", "local control")
#: a reading that is asked for twice is up to so late
SHIFT_s = 3.0


def _rig(letter: str) -> Rig:
    if letter in "FT":
        return Rig(frame=1, real_time=False, poll="5 s", protocol=SHORT, has_scanner=True,
                   in_thread=True)  # fmt: skip
    return Rig(frame=0, supplies={letter: 1}, real_time=False, poll="5 s", protocol=SHORT,
               has_scanner=True, in_thread=True)  # fmt: skip


def _run(made: Rig, kind: str = "", letter: str = "") -> str:
    """Run the protocol, with a fault after a while; return what was said of it."""
    done: list[bool] = []

    def look(data: dict[str, Any]) -> None:
        if kind and not done and data.get("bench_time_s", 0.0) >= AT_s:
            done.append(True)
            name, on = MODELS[letter]
            # a relay, leads or a plug need no line to be met
            made.fault(name, kind, on="" if kind in ("relay stuck", "unplugged") else on,
                       delay_s=5.0, times=1)  # fmt: skip

    try:
        found = session.run_study(made.study, "rig", report=look)
    except BatterylabError as error:
        return error.message
    return "; ".join(why for _, why in found if why)


def _left(made: Rig, kind: str, said: str) -> list[str]:
    """Return what is wrong with how a run was left: current, or silence about it.

    What cannot be reached must be called unconfirmed; what bounds it by itself (the duration of
    a sequence on board, the watchdog of a supply) must have ended it within the time it has.
    """
    if made.is_quiet():
        return []
    if "not confirmed safe" not in said:
        return [f"current flows, and nobody says so: {said[:60]}"]
    if kind == "unplugged" and made.channels[0][0] in BOUNDED:
        made.control.sleep_until(made.control.now() + WATCHDOG_s)
        return [] if made.is_quiet() else ["nothing ended the current"]
    return []


def _differences(recording: Recording, reference: Recording, kind: str) -> int:
    """Count rows that the reference, read without a fault, does not confirm.

    A row may come a little later: its figures must be those of the reference near that time.
    Where the fault itself ends the current, rows without current are true; where it turns the
    leads, so are negative voltages.
    """
    rows = np.column_stack([recording.columns[name] for name in FIGURES])
    true = np.column_stack([reference.columns[name] for name in FIGURES])
    start_s, true_s = rows[0, 0], true[0, 0]
    wrong = 0
    for row in rows:
        near = true[np.abs((true[:, 0] - true_s) - (row[0] - start_s)) <= SHIFT_s]
        if (kind in ENDING and abs(row[1]) < SAFE_A) or (kind == "wrong polarity" and row[2] < 0):
            continue
        close = np.isclose(near[:, 1:], row[1:], rtol=0, atol=(5e-3, 5e-3, 0.2), equal_nan=True)
        wrong += not (len(near) and close.all(axis=1).any())
    return wrong


def in_a_run(is_quick: bool) -> Iterator[Line]:
    """Inject every fault into every instrument; compare what was recorded with a run without."""
    counts: dict[str, list[str]] = {"told": [], "harmless": []}
    troubles: list[str] = []
    for number, letter in enumerate(MODELS):
        kinds = [kind for kind in FAULTS
                 if kind not in ("open interlock", *LACKS.get(letter, ()))]  # no door here
        if is_quick:
            kinds = kinds[number % 4 :: 4]
        made = _rig(letter)
        try:
            _run(made)
            (reference,) = made.sealed()
        finally:
            made.close()
        for kind in kinds:
            what = f"{MODELS[letter][0]} {kind}"
            made = _rig(letter)
            try:
                said = _run(made, kind, letter)
                counts["told" if said else "harmless"].append(what)
                made.control.ask("mend", instrument=MODELS[letter][0])
                troubles += [f"{what}: {text}" for text in _left(made, kind, said)]
                wrong = sum(_differences(r, reference, kind) for r in made.sealed())
                if wrong:
                    troubles.append(f"{what}: {wrong} rows that are not true")
            finally:
                made.close()
    total = sum(map(len, counts.values()))
    yield Line("faults in a run: safe, told, no wrong number",
               f"{total} faults: {len(counts['told'])} told, {len(counts['harmless'])} "
               f"without harm, {len(troubles)} troubles"
               + (f": {'; '.join(troubles)[:300]}" if troubles else ""),
               "no trouble", total > 0 and not troubles)  # fmt: skip


def reactions(count: int) -> Iterator[Line]:
    """Turn a cell's leads round while it is charged; wait until its current has ended.

    The frame watches its limits on board, an EA unit its protections; a Keithley has none at the
    lower end, so that the host must see it.
    """
    times: dict[str, list[float]] = {}
    for sample in ("1 s", "100 ms"):
        supplies = {"E": 1, "K": 1} if sample == "1 s" else {"K": 1}
        with rig(frame=sample == "1 s", supplies=supplies, sample=sample) as made:
            for _ in range(count):
                made.start()
                made.until_current_flows()
                for channel in made.channels:
                    seconds = _reaction(made, channel)
                    times.setdefault(f"{channel[0]} {sample}", []).append(seconds)
                made.wait_for_end()
                for channel in made.channels:  # the leads are put right again
                    made.fault(MODELS[channel[0]][0], "wrong polarity")
    for key, title, bound_s in (
        ("F 1 s", "on board (BT2200)", 2.0), ("E 1 s", "the supply's protection (EA)", 2.0),
        ("K 1 s", "host-stepped at 1 Hz (Keithley 2460)", 3.0),
        ("K 100 ms", "host-stepped at 10 Hz (Keithley 2460)", 2.0),
    ):  # fmt: skip
        worst = max(times[key])
        yield Line(f"limit crossed, {title}",
                   f"median {statistics.median(times[key]):.2f} s, worst {worst:.2f} s of {count}",
                   f"{bound_s:g} s", worst <= bound_s)  # fmt: skip


def _reaction(made: Rig, channel: str) -> float:
    """Turn a channel's leads round; return how long its current flows on, in s."""
    random_part = 0.13 * (hash(channel) % 7)  # not always at the same moment of a second
    time.sleep(0.5 + random_part)
    wait_for(lambda: abs(made.flows()[channel]) > SAFE_A, 30.0, made.told)
    made.fault(MODELS[channel[0]][0], "wrong polarity")
    began = time.monotonic()
    wait_for(lambda: abs(made.flows()[channel]) < SAFE_A, 30.0, made.told)
    return time.monotonic() - began
