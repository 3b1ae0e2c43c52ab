"""Turn a journal into sealed recordings: the one way from a run to the archive.

A run that ended well and one that was cut short by a power failure take the same way; the
journal is kept until its recordings are sealed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from batterylab.archive import write
from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.spectra import readings_of, with_spectra
from batterylab.bench.standing import DIED
from batterylab.recording import Recording, StepRow
from batterylab.study import Study
from batterylab.studylog import utc_text

#: a journal's channels are sealed in groups of so many rows (176 MB), or one by one
ROWS_AT_ONCE = 2_000_000


def recordings(content: JournalContent) -> Iterator[tuple[Recording, str]]:
    """Yield each channel's recording, and why it was stopped; empty if it was not.

    Channels without a single row give none.
    """
    channels = content.head.get("channels", [])
    for group in _groups(content.row_counts[: len(channels)]):
        rows = content.channel_rows(group)
        for index in group:
            yield _recording(content, index, channels[index], rows[rows[:, 0] == index])


def _groups(counts: Any) -> Iterator[list[int]]:
    """Yield the channels that have rows, as many at once as the memory shall hold."""
    group: list[int] = []
    for index in np.flatnonzero(counts).tolist():
        if group and counts[[*group, index]].sum() > ROWS_AT_ONCE:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _recording(
    content: JournalContent, index: int, channel: dict[str, Any], rows: Any
) -> tuple[Recording, str]:
    head = content.head
    start_s = float(next(e["start_s"] for e in content.events if e["what"] == "begin"))
    events = [event for event in content.events if event.get("index") == index]
    stopped = next((e["reason"] for e in events if e["what"] == "stopped"), "")
    cut = [e["reason"] for e in content.events if e["what"] == "interrupted"]
    cut = [] if content.events and content.events[-1]["what"] != "interrupted" else cut[-1:]
    is_complete = any(e["what"] == "complete" for e in events)
    if not stopped and not is_complete:
        stopped = (cut or [DIED])[0]
    said = (text for e in events if e["what"] == "remark" for text in e["remarks"])
    remarks = list(dict.fromkeys(said))
    pauses = [
        {"at_s": e["at_s"] - start_s - e["paused_s"], "length_s": e["gap_s"],
         "reason": e["reason"], "operator": e["operator"]}
        for e in content.events if e["what"] == "resumed"
    ]  # fmt: skip
    columns = {
        name: rows[:, k].astype("<i4") if name.endswith("_index") else rows[:, k].copy()
        for k, name in enumerate(ROW)
        if k > 0
    }
    kept = np.unique(columns["step_index"])
    steps = _steps(events, columns, start_s)
    readings, spectra = readings_of(events, steps, columns, kept)
    steps = with_spectra(columns, steps, spectra)
    remarks += [f"{step.measure or step.label} was not read" for step in steps
                if step.kind == "measure" and step.ended_by != "stopped"
                and not any(r["step_index"] == step.step_index for r in readings)]  # fmt: skip
    provenance = {
        **head["provenance"],
        **channel["provenance"],
        "channel": channel["channel"],
        "start_utc": utc_text(start_s),
        "ended": f"stopped: {stopped}" if stopped else "complete",
        "remarks": remarks,
    }
    marks = [{"name": e["name"], "time_s": e["at_s"] - start_s}
             for e in events if e["what"] == "mark"]  # fmt: skip
    if marks:
        provenance["marks"] = marks
    if readings:
        provenance["readings"] = readings
    safety = [e["layers"] for e in events if e["what"] == "safety"]
    if safety:
        provenance["safety"] = safety[-1]
    if pauses:
        provenance["pauses"] = pauses
    recording = Recording(
        serial=channel["serial"],
        supplier=channel["supplier"],
        lot=channel["lot"],
        protocol=head["protocol"],
        columns=columns,
        steps=steps,
        cell_type=head["cell_type"],
        protocol_resolved=head["protocol_resolved"],
        provenance=provenance,
    )
    return recording, stopped


def _steps(
    events: list[dict[str, Any]], columns: dict[str, Any], start_s: float
) -> list[StepRow]:
    plans = {
        event["first"] + k: (step, event["cycle"])
        for event in events
        if event["what"] == "segment"
        for k, step in enumerate(event["steps"])
    }
    ends = {event["step"]: event for event in events if event["what"] == "step"}
    index = columns["step_index"]
    numbers = np.unique(index)
    # steps that left no row do not count: renumber, so that steps are 0, 1, 2, …
    columns["step_index"] = np.searchsorted(numbers, index).astype("<i4")
    steps = []
    for new, number in enumerate(numbers):
        plan, cycle = plans[int(number)]
        rows = np.flatnonzero(index == number)
        end = ends.get(int(number))
        first_s, last_s = (float(columns["test_time_s"][rows[k]]) for k in (0, -1))
        begins_s = end["start_s"] - start_s if end else first_s - 1.0
        steps.append(
            StepRow(
                step_index=new,
                first_row=int(rows[0]),
                last_row=int(rows[-1]),
                kind=plan["kind"],
                label=plan["path"],
                measure=plan["measure"],
                ended_by=end["ended_by"] if end else _cut(number, numbers),
                cycle_index=int(cycle),
                start_s=begins_s,
                duration_s=(end["end_s"] - start_s if end else last_s) - begins_s,
                current_A=plan["current_A"],
                voltage_V=float("nan") if plan["voltage_V"] is None else plan["voltage_V"],
            )
        )
    return steps


def _cut(number: int, numbers: Any) -> str:
    """Return what ended a step of whose end the journal says nothing."""
    return "stopped" if number == numbers[-1] else "unknown"


def harvest(study: Study, journal: Path, operator: str) -> list[tuple[Path, str]]:
    """Seal every recording of a journal and enter it in the study's log.

    Parameters
    ----------
    study : Study
        Whose archive gets the recordings.
    journal : Path
        Of a run that has ended, however it ended.
    operator : str
        Who is responsible.

    Returns
    -------
    list of (Path, str)
        Each file, and why its channel was stopped; empty if it was not. A channel that was
        stopped before its first sample has no file, and its path says so.

    Raises
    ------
    EnvironmentFailedError
        If the disk refuses; the journal stays, and harvesting again completes the archive.
    """
    content = JournalContent(journal)
    known = {entry["data"]["seal"] for entry in study.log.entries("recording")}
    done = []
    for recording, stopped in recordings(content):
        path = write(recording, study.archive)
        seal = _seal_in(path)
        if seal not in known:
            study.log.append(
                "recording", operator, seal=seal, serial=recording.serial,
                protocol=recording.protocol, channel=recording.provenance["channel"],
                part=recording.provenance.get("part", "main"), run=content.head["run"],
            )  # fmt: skip
            remarks = recording.provenance["remarks"]
            if stopped:
                study.log.set_state(seal, "invalid", f"aborted: {stopped}", operator)
            elif remarks:
                study.log.set_state(seal, "valid with remark", "; ".join(remarks), operator)
        done.append((path, stopped))
    return done + _unrecorded(study, content, operator)


def _unrecorded(study: Study, content: JournalContent, operator: str) -> list[tuple[Path, str]]:
    """Enter in the log the channels that were stopped before their first sample."""
    known = {(e["data"]["run"], e["data"]["channel"]) for e in study.log.entries("unrecorded")}
    counts = dict(enumerate(content.row_counts.tolist()))
    done = []
    for event in content.events:
        index = event.get("index", -1)
        if event["what"] != "stopped" or counts.get(index):
            continue
        channel, run = content.head["channels"][index], content.head["run"]
        serial, name = channel["serial"], channel["channel"]
        if (run, name) not in known:
            study.log.append("unrecorded", operator, serial=serial, channel=name, run=run,
                             protocol=content.head["protocol"], reason=event["reason"])  # fmt: skip
        done.append((study.archive / serial / "no recording", event["reason"]))
    return done


def _seal_in(path: Path) -> str:
    from batterylab.archive import entry

    return entry(path).seal
