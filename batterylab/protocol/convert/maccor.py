"""Procedure files of Maccor testers (XML, ``.000``).

The elements, their order and their padded values are those of published procedure files, such as
the templates of TRI-AMDD/beep (Apache 2.0). A tester reads eight characters for a step's type,
mode and a condition's type; loops are pairs of ``Do n`` and ``Loop n``.
"""

import math
from xml.sax.saxutils import escape

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.carry import Loop, Row, refuse_what_cannot_be_carried, rows
from batterylab.protocol.convert.losses import (
    Written,
    chamber_lost,
    decisions_lost,
    names_lost,
    overtime_lost,
)
from batterylab.protocol.flat import FlatStep
from batterylab.protocol.form import Resolved, Step

#: loops in each other
DEEPEST = 4
MOST_STEPS = 990
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<?maccor-application progid="Maccor Procedure File"?>
<MaccorTestProcedure>
  <header>
    <BuildTestVersion>
      <major>1</major>
      <minor>5</minor>
      <release>7006</release>
      <build>32043</build>
    </BuildTestVersion>
    <FileFormatVersion>
      <BTVersion>11</BTVersion>
    </FileFormatVersion>
    <ProcDesc>
      <desc>{name}</desc>
    </ProcDesc>
  </header>
  <ProcSteps>
"""
_FOOT = "  </ProcSteps>\n</MaccorTestProcedure>\n"


def to_maccor(resolved: Resolved) -> Written:
    """Return a procedure file.

    Raises
    ------
    BatterylabError
        If there is a step that it cannot express, or there are too many.
    """
    left_out = refuse_what_cannot_be_carried(resolved, "maccor", ("voltage",))
    found = rows(resolved, DEEPEST)
    # the end of each loop advances the cycle first
    count = sum(2 if isinstance(row, Loop) and row.times else 1 for row in found) + 1
    if count > MOST_STEPS:
        raise BatterylabError(
            f"{resolved.name}: {count} steps, a Maccor procedure holds {MOST_STEPS}",
            hint="to_soc makes loops flat; fewer repetitions in one file",
        )
    parts, number = [], 0
    for row in found:
        for element in _elements(row, number, count, resolved):
            parts.append(element)
            number += 1
    parts.append(_element("  End   ", "        ", "", "", [], [], "", ""))
    text = _HEAD.format(name=escape(resolved.name)) + "".join(parts) + _FOOT
    losses = [
        *decisions_lost(resolved), *left_out, *chamber_lost(resolved), *overtime_lost(resolved),
        *names_lost(resolved),
        "written after published files, never read by a tester here: open it in Maccor's own "
        "program first",
        "safety: beyond a voltage limit the procedure goes to its end step",
    ]  # fmt: skip
    return Written(text, ".000", losses)


def _elements(row: Row, number: int, count: int, resolved: Resolved) -> list[str]:
    """Return the steps of a row; `number` are before it."""
    blank = "        "
    if isinstance(row, Loop):
        if not row.times:
            return [_element(f"  Do {row.level}  ", blank, "", "", [], [], "", "")]
        end = _end("Loop Cnt", " = ", number + 3, str(row.times))
        return [
            _element("AdvCycle", blank, "", "", [], [], "", ""),
            _element(f" Loop {row.level} ", blank, "", "", [end], [], "", ""),
        ]
    return [_drive(row, number, count, resolved)]


def _drive(item: FlatStep, number: int, count: int, resolved: Resolved) -> str:
    step = item.step
    following = number + 2
    low_V, high_V = resolved.voltage_limits_V
    seconds = step.duration_s
    if item.stop_after_s is not None:
        seconds = min(seconds, item.stop_after_s)
    ends = [_end("StepTime", " = ", following, clock(seconds))]
    limits = ""
    if step.mode != "rest":
        if step.ends_at_voltage:
            sign = "&gt;= " if step.current_A > 0 else "&lt;= "
            ends.insert(0, _end("Voltage ", sign, following, f"{step.voltage_V:.6g}"))
        else:
            limits = f"\n        <Voltage>{step.voltage_V:.6g}</Voltage>\n      "
        if step.hold_until_A is not None:
            ends.insert(0, _end("Current ", "&lt;= ", following, f"{step.hold_until_A:.6g}"))
    ends += [
        _end("Voltage ", "&gt;= ", count, f"{high_V:.6g}"),
        _end("Voltage ", "&lt;= ", count, f"{low_V:.6g}"),
    ]
    kind = "  Rest  " if step.mode == "rest" else " Charge " if step.current_A > 0 else "Dischrge"
    is_rest = step.mode == "rest"
    return _element(
        kind, "        " if is_rest else "Current ",
        "" if is_rest else f"{abs(step.current_A):.6g}", limits, ends,
        _reports(step, resolved), "4" if is_rest else "A", step.measure,
    )  # fmt: skip


def _reports(step: Step, resolved: Resolved) -> list[str]:
    every_s = step.sample_every_s or resolved.every_s
    moves_V = step.voltage_moves_V or resolved.voltage_moves_V
    found = [_report("StepTime", clock(every_s))]
    if math.isfinite(moves_V):
        found.append(_report("Voltage ", f"{moves_V:.6g}"))
    return found


def clock(seconds: float) -> str:
    """Return a length as hours, minutes and seconds; below a second as a part of one."""
    if seconds < 1:
        return f"::.{round(100 * seconds):02d}"
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _end(kind: str, sign: str, step: int, value: str) -> str:
    return (
        "        <EndEntry>\n"
        f"          <EndType>{kind}</EndType>\n"
        "          <SpecialType> </SpecialType>\n"
        f"          <Oper>{sign}</Oper>\n"
        f"          <Step>{step:03d}</Step>\n"
        f"          <Value>{value}</Value>\n"
        "        </EndEntry>\n"
    )


def _report(kind: str, value: str) -> str:
    return (
        "        <ReportEntry>\n"
        f"          <ReportType>{kind}</ReportType>\n"
        f"          <Value>{value}</Value>\n"
        "        </ReportEntry>\n"
    )


def _element(
    kind: str, mode: str, value: str, limits: str, ends: list[str], reports: list[str],
    range_: str, note: str,
) -> str:  # fmt: skip
    option = "N" if range_ else ""
    listed = {"Limits": limits, "Ends": _list(ends), "Reports": _list(reports)}
    lines = "".join(
        f"      <{name}>{text}</{name}>\n" if text else f"      <{name}/>\n"
        for name, text in listed.items()
    )
    return (
        "    <TestStep>\n"
        f"      <StepType>{kind}</StepType>\n"
        f"      <StepMode>{mode}</StepMode>\n"
        f"      <StepValue>{value}</StepValue>\n"
        f"{lines}"
        f"      <Range>{range_}</Range>\n"
        f"      <Option1>{option}</Option1>\n"
        f"      <Option2>{option}</Option2>\n"
        f"      <Option3>{option}</Option3>\n"
        f"      <StepNote>{escape(note)}</StepNote>\n"
        "    </TestStep>\n"
    )


def _list(entries: list[str]) -> str:
    return "\n" + "".join(entries) + "      " if entries else ""
