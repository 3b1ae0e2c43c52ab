"""Schedule files of Arbin's MITS Pro (text in sections, ``.sdu``).

Sections, keys and variables are those of published schedule files, such as the template of
TRI-AMDD/beep (Apache 2.0), version 7.00.13. Loops count in the test counters TC_Counter1 to 4,
which a step ``Set Variable(s)`` sets to 0 or raises: bits of its values, as beep decodes them.
"""

import math

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.carry import Row, refuse_what_cannot_be_carried, rows
from batterylab.protocol.convert.losses import (
    Written,
    chamber_lost,
    decisions_lost,
    names_lost,
    overtime_lost,
)
from batterylab.protocol.flat import FlatStep
from batterylab.protocol.form import Resolved

#: test counters
DEEPEST = 4
MOST_STEPS = 500
LINE = "\r\n"
Section = dict[str, str]
Limit = tuple[Section, int | None]


def to_arbin(resolved: Resolved) -> Written:
    """Return a schedule file.

    Raises
    ------
    BatterylabError
        If there is a step that it cannot express, or there are too many.
    """
    left_out = refuse_what_cannot_be_carried(resolved, "arbin", ("voltage",))
    found = rows(resolved, DEEPEST)
    if len(found) > MOST_STEPS:
        raise BatterylabError(
            f"{resolved.name}: {len(found)} steps, this writes at most {MOST_STEPS}",
            hint="to_soc makes loops flat; fewer repetitions in one file",
        )
    sections = {
        "Version Section": {"Current_Version": "Schedule Version 7.00.13"},
        "Signature Section": {"Signature": "{107D0951-627E-482C-A740-B910534E89AA}"},
        "Schedule": _head(resolved, len(found)),
    }
    begins: list[int] = []
    for number, row in enumerate(found):
        body, limits = _step(row, number, resolved, begins)
        body = {"m_uLimitNum": str(len(limits)), **body}
        sections[f"Schedule_Step{number}"] = _STEP | body
        for k, (limit, goto) in enumerate(limits):
            if goto is not None:
                limit["m_szGotoStep"] = sections[f"Schedule_Step{goto}"]["m_szLabel"]
            sections[f"Schedule_Step{number}_Limit{k}"] = limit
    for k in range(16):
        sections[f"Schedule_UserDefineSafety{k}"] = {
            "m_szSafetyType": "", "m_fMinValue": "0", "m_fMaxValue": "0"
        }  # fmt: skip
    text = "".join(
        f"[{name}]{LINE}" + "".join(f"{key}={value}{LINE}" for key, value in body.items())
        for name, body in sections.items()
    )
    losses = [
        *decisions_lost(resolved), *left_out, *chamber_lost(resolved), *overtime_lost(resolved),
        *names_lost(resolved),
        "safety: the temperature limits count only where a sensor is mapped to the channel",
        "ranges: every step says Range1, the largest: choose smaller ones by hand",
        "written after published files, never read by a tester here: open it in MITS Pro first",
    ]  # fmt: skip
    return Written(text, ".sdu", losses)


def _head(resolved: Resolved, steps: int) -> Section:
    """Return what holds in every step: limits, logging, the number of steps."""
    kind = resolved.cell_type
    scopes = {
        "m_CurrentSafetyScope": (-1.05 * kind.max_discharge_A, 1.05 * kind.max_charge_A),
        "m_VoltageSafetyScope": resolved.voltage_limits_V,
        "m_AuxTempSafetyScope": resolved.temperature_limits_degC,
    }
    return {
        "m_uMUID": "1", "m_szCreator": "batterylab", "m_szComments": resolved.name,
        "m_uMaxTimesOfUnsafe": "3", "m_fMinDtSeconds": "1", "m_bLogChanNormalData": "1",
        "m_bLogChanStatData": "1", "m_bLogChanAuxData": "1", "m_bCheckCurrentSafety": "1",
        "m_bDefaultCurrentSafetyMode": "0", "m_uDefaultCurrentSafetyScopePercent": "105",
        "m_bCheckVoltageSafety": "1", "m_bDefaultVoltageSafetyMode": "0",
        "m_uDefaultVoltageSafetyScopePercent": "105", "m_bCheckPowerSafety": "0",
        "m_AuxSafetyEnabled": " ; ".join(f"{k}^{1 if k == 1 else 0}" for k in range(12)),
        **{name: f"{low:.6f}^{high:.6f}" for name, (low, high) in scopes.items()},
        "m_uStepNum": str(steps), "m_uFormulaNum": "0", "m_uPulseNum": "0", "m_uCVNum": "0",
        "m_uAddInNum": "0", "m_iAppCategory": "0",
    }  # fmt: skip


_STEP: Section = {
    "m_uLimitNum": "0", "m_szLabel": "", "m_szStepCtrlType": "", "m_szCurrentRange": "Range1",
    "m_szVoltageRange": "High", "m_szCtrlValue": "", "m_szExtCtrlValue1": "",
    "m_szExtCtrlValue2": "", "m_szExtDef": "", "m_uStepCtrlTypeExtFlag": "0", "m_szAddIn": "",
    "m_bSampleClockStretch": "0", "m_szUnitType": "", "m_szExUnitType1": "",
    "m_bSynchronizedStart": "0", "m_bAutoPidTips": "0", "m_nExtra1": "0", "m_szExtDef1": "",
    "m_bBurstModeEnable": "0",
}  # fmt: skip


def _label(number: int, name: str = "") -> str:
    return f"{number + 1}-{name}" if name else f"{number + 1}"


def _step(
    row: Row, number: int, resolved: Resolved, begins: list[int]
) -> tuple[Section, list[Limit]]:
    """Return a step's own keys and its limits; `begins` holds where open loops began."""
    if isinstance(row, FlatStep):
        return _drive(row, number, resolved)
    control = {"m_szLabel": _label(number), "m_szStepCtrlType": "Set Variable(s)",
               "m_szExtCtrlValue2": "0"}  # fmt: skip
    if not row.times:
        begins.append(number)
        resets = {"m_szCtrlValue": str(2 ** (15 + row.level)), "m_szExtCtrlValue1": "0"}
        return control | resets, [_limit("PV_CHAN_Step_Time", ">", "0")]
    first = begins.pop() + 1
    raises = {"m_szCtrlValue": "0", "m_szExtCtrlValue1": str(2**row.level + 1)}
    counter = f"TC_Counter{row.level}"
    return control | raises, [
        _limit(counter, "<", str(row.times), goto=first),
        _limit(counter, ">=", str(row.times)),
    ]


def _drive(
    item: FlatStep, number: int, resolved: Resolved
) -> tuple[Section, list[Limit]]:
    step = item.step
    seconds = step.duration_s
    if item.stop_after_s is not None:
        seconds = min(seconds, item.stop_after_s)
    limits = [_limit("PV_CHAN_Step_Time", ">=", str(seconds))]
    body = {"m_szLabel": _label(number, step.measure)}
    if step.mode == "rest":
        body["m_szStepCtrlType"] = "Rest"
    elif step.ends_at_voltage:
        body |= {"m_szStepCtrlType": "Current(A)", "m_szCtrlValue": f"{step.current_A:.6g}"}
        sign = ">=" if step.current_A > 0 else "<="
        limits.append(_limit("PV_CHAN_Voltage", sign, f"{step.voltage_V:.6g}"))
    else:
        body |= {
            "m_szStepCtrlType": "CCCV", "m_szCtrlValue": f"{step.current_A:.6g}",
            "m_szExtCtrlValue1": f"{step.voltage_V:.6g}", "m_szExtCtrlValue2": "0",
        }  # fmt: skip
        if step.hold_until_A is not None:
            sign, value = ("<=", step.hold_until_A) if step.current_A > 0 else (
                ">=", -step.hold_until_A)  # fmt: skip
            limits.append(_limit("PV_CHAN_CV_Stage_Current", sign, f"{value:.6g}"))
    every_s = step.sample_every_s or resolved.every_s
    limits.append(_limit("DV_Time", ">=", f"{every_s:g}", ends=False))
    moves_V = step.voltage_moves_V or resolved.voltage_moves_V
    if math.isfinite(moves_V) and step.mode != "rest":
        limits.append(_limit("DV_Voltage", ">=", f"{moves_V:g}", ends=False))
    return body, limits


def _limit(
    left: str, sign: str, right: str, *, ends: bool = True, goto: int | None = None
) -> Limit:
    """Return a limit that ends the step or records, and the step that it leads back to."""
    found = {
        "m_bStepLimit": "1" if ends else "0", "m_bLogDataLimit": "1",
        "m_szGotoStep": "Next Step",
        "Equation0_szLeft": left, "Equation0_szCompareSign": sign, "Equation0_szRight": right,
    }  # fmt: skip
    for k in (1, 2):
        found |= {f"Equation{k}_sz{word}": "" for word in ("Left", "CompareSign", "Right")}
    return found, goto
