"""Conversions: what is written, what is lost, what is refused, what comes back."""

import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from batterylab.bench.onboard import Guards, compile_segment
from batterylab.cells import CellType
from batterylab.cli.protocol import protocol
from batterylab.drivers.keysight_bt2200 import Bt2200
from batterylab.errors import BatterylabError
from batterylab.protocol import load
from batterylab.protocol.convert import TARGETS, convert
from batterylab.protocol.convert.keysight import sequence_commands
from batterylab.protocol.convert.pybammstrings import experiment, from_pybamm
from batterylab.protocol.convert.read import read_protocol
from batterylab.protocol.convert.unicycler import from_unicycler, method
from batterylab.protocol.flat import flat
from batterylab.protocol.progress import Segment
from batterylab.protocol.simulate import simulate

TEXT = """\
schema: batterylab.protocol/1
name: tried
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 h}
steps:
  - until: {measure: capacity, last: 2, within: 3 % of rated, at_most: 4}
    steps:
      - charge: {rate: 1C, until: v_max, hold_until: C/10, at_most: 3 h}
      - rest: {for: 5 min}
      - discharge: {rate: 1C, until: v_min, at_most: 2 h}
        measure: capacity
      - rest: {for: 5 min}
record: {every: 10 s}
"""
TO_SOC = TEXT.replace("record:", """\
  - charge: {rate: 1C, until: v_max, hold_until: C/10, at_most: 3 h}
  - discharge: {rate: C/2, to_soc: 80 %, at_most: 3 h, sample_every: 1 s}
record:""")  # fmt: skip


def kind(capacity_Ah=5.0):
    return CellType.model_validate({
        "name": "x", "nominal_capacity": f"{capacity_Ah} Ah", "rated_capacity": f"{capacity_Ah} Ah",
        "voltage": {"min": "2.5 V", "max": "4.2 V"},
        "current": {"max_charge": f"{capacity_Ah} A", "max_discharge": f"{2 * capacity_Ah} A"},
        "temperature": {"min": "0 degC", "max": "60 degC"},
    })  # fmt: skip


def resolved(tmp_path, text=TEXT, capacity_Ah=5.0):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return load(path).resolve(kind(capacity_Ah))


@pytest.mark.parametrize("target", [t for t in TARGETS if TARGETS[t].drives_cells])
def test_a_stop_that_the_target_lacks_is_an_error(tmp_path, target):
    plan = resolved(tmp_path, capacity_Ah=0.2)
    with pytest.raises(BatterylabError, match="cannot stop a cell on its temperature") as caught:
        convert(plan, target)
    assert "--watched-elsewhere temperature" in (caught.value.hint or "")
    written = convert(plan, target, ["temperature"])
    assert any("no stop outside -10 to 70 degC" in loss for loss in written.losses)
    assert any("until: capacity is repeated 2 times" in loss for loss in written.losses)


def test_unknown_targets_and_limits_are_said(tmp_path):
    with pytest.raises(BatterylabError, match="unknown target 'basytec'"):
        convert(resolved(tmp_path), "basytec")
    with pytest.raises(BatterylabError, match="no limit 'heat'"):
        convert(resolved(tmp_path), "keysight", ["heat"])


def test_pybamm_runs_what_is_written_and_finds_our_capacity(tmp_path):
    from batterylab.protocol.pybammcell import changes_for
    from batterylab.pybamm_border import pybamm
    from batterylab.simulated.cell import CellTruth, SimulatedCell

    plan = resolved(tmp_path)
    arguments = json.loads(convert(plan, "pybamm").text)
    module = pybamm()
    cell = SimulatedCell(CellTruth())
    values = module.ParameterValues("Chen2020")
    values.update(changes_for(cell, cell.at_rest(0.3, (2.5, 4.2))))
    values.update({"Lower voltage cut-off [V]": 2.0, "Upper voltage cut-off [V]": 4.5})
    solution = module.Simulation(
        module.lithium_ion.SPMe({"thermal": "lumped", "contact resistance": "true"}),
        experiment=module.Experiment(**arguments), parameter_values=values,
        solver=module.IDAKLUSolver(),
    ).solve()  # fmt: skip
    assert len(solution.cycles) == 10
    last = solution.cycles[8]["Discharge capacity [A.h]"].entries
    ours = simulate(plan)
    step = [s for s in ours.steps if s.measure][-1]
    charge = ours.columns["net_capacity_Ah"]
    expected = charge[step.first_row - 1] - charge[step.last_row]
    assert last[-1] - last[0] == pytest.approx(expected, rel=5e-3)


def test_pybamm_sentences_come_back_as_the_same_steps(tmp_path):
    plan = resolved(tmp_path, TO_SOC)
    sentences = experiment(plan)
    assert sentences[:2] == [
        "Charge at 5 A for 10800 seconds or until 4.2 V",
        "Hold at 4.2 V for 10800 seconds or until 0.5 A",
    ]
    assert sentences[-1] == "Discharge at 2.5 A for 1440 seconds or until 2.5 V"
    path = tmp_path / "again.json"
    path.write_text(convert(plan, "pybamm").text)
    again = tmp_path / "again.yaml"
    again.write_text(read_protocol(path, "again"))
    assert experiment(load(again).resolve(kind())) == sentences


def test_unicyclers_package_accepts_our_json_and_it_comes_back(tmp_path):
    import aurora_unicycler

    plan = resolved(tmp_path)
    data = json.loads(convert(plan, "unicycler", ["temperature"]).text)
    accepted = aurora_unicycler.CyclingProtocol.from_dict(data)
    assert [s.step for s in accepted.method] == [
        "tag", "constant_current", "constant_voltage", "open_circuit_voltage", "constant_current",
        "open_circuit_voltage", "loop",
    ]  # fmt: skip
    assert accepted.safety.max_voltage_V == 4.25
    assert len(accepted.to_pybamm_experiment()) == 10
    path = tmp_path / "u.json"
    path.write_text(accepted.to_json())
    again = tmp_path / "u.yaml"
    again.write_text(read_protocol(path, "again"))
    back = load(again).resolve(kind())
    assert method(back)["method"][1:-1] == data["method"][1:-1]
    assert back.voltage_limits_V == plan.voltage_limits_V
    assert len(list(flat(back))) == len(list(flat(plan)))


def test_neware_gets_steps_and_protection(tmp_path):
    root = ET.fromstring(convert(resolved(tmp_path, TO_SOC), "neware", ["temperature"]).text)
    steps = list(root.find("config/Step_Info"))
    assert [s.get("Step_Type") for s in steps] == [
        "1", "3", "4", "2", "4", "1", "3", "4", "2", "4", "1", "3", "2", "6"
    ]  # fmt: skip
    assert float(root.find("config/Whole_Prt/Protect/Main/Volt/Upper").get("Value")) == 42500
    assert float(steps[3].find("Limit/Main/Stop_Volt").get("Value")) == 25000


def test_biologic_is_written_up_to_an_ampere(tmp_path):
    text = convert(resolved(tmp_path, capacity_Ah=0.2), "biologic", ["temperature"]).text
    assert text.startswith("EC-LAB SETTING FILE")
    with pytest.raises(BatterylabError, match="aurora-unicycler refuses: I range"):
        convert(resolved(tmp_path), "biologic", ["temperature"])


def test_without_the_package_the_remedy_is_said(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "aurora_unicycler", None)
    with pytest.raises(BatterylabError) as caught:
        convert(resolved(tmp_path), "neware", ["temperature"])
    assert "batterylab[convert]" in str(caught.value)
    assert convert(resolved(tmp_path), "unicycler", ["temperature"]).text


def maccor_steps(text):
    root = ET.fromstring(text)
    return [{child.tag: child for child in step} for step in root.find("ProcSteps")]


def test_maccor_gets_steps_loops_and_an_end_beyond_its_limits(tmp_path):
    text = convert(resolved(tmp_path), "maccor", ["temperature"]).text
    assert text.splitlines()[1] == '<?maccor-application progid="Maccor Procedure File"?>'
    steps = maccor_steps(text)
    kinds = [step["StepType"].text for step in steps]
    assert kinds == [
        "  Do 1  ", " Charge ", "  Rest  ", "Dischrge", "  Rest  ", "AdvCycle", " Loop 1 ",
        "  End   ",
    ]  # fmt: skip
    assert all(len(kind) == 8 for kind in kinds)
    charge = steps[1]
    assert charge["StepValue"].text == "5"
    assert charge["Limits"].find("Voltage").text == "4.2"
    ends = [[part.text for part in end] for end in charge["Ends"]]
    assert ends == [
        ["Current ", " ", "<= ", "003", "0.5"], ["StepTime", " ", " = ", "003", "03:00:00"],
        ["Voltage ", " ", ">= ", "008", "4.25"], ["Voltage ", " ", "<= ", "008", "2.45"],
    ]  # fmt: skip
    loop = [part.text for part in steps[6]["Ends"][0]]
    assert loop == ["Loop Cnt", " ", " = ", "008", "2"]


def sections_of(text):
    found, name = {}, ""
    for line in text.split("\r\n"):
        if line.startswith("["):
            name = line[1:-1]
            found[name] = {}
        elif line:
            key, value = line.split("=", 1)
            found[name][key] = value
    return found


def test_arbin_gets_steps_loops_and_safety_scopes(tmp_path):
    written = convert(resolved(tmp_path), "arbin", ["temperature"])
    found = sections_of(written.text)
    head = found["Schedule"]
    assert head["m_uStepNum"] == "6"
    assert head["m_VoltageSafetyScope"] == "2.450000^4.250000"
    assert head["m_AuxTempSafetyScope"] == "-10.000000^70.000000"
    controls = [found[f"Schedule_Step{k}"]["m_szStepCtrlType"] for k in range(6)]
    assert controls == ["Set Variable(s)", "CCCV", "Rest", "Current(A)", "Rest", "Set Variable(s)"]
    assert found["Schedule_Step3"]["m_szCtrlValue"] == "-5"
    for k in range(6):
        count = int(found[f"Schedule_Step{k}"]["m_uLimitNum"])
        assert f"Schedule_Step{k}_Limit{count - 1}" in found
        assert f"Schedule_Step{k}_Limit{count}" not in found
    back = found["Schedule_Step5_Limit0"]
    assert back["Equation0_szLeft"] == "TC_Counter1"
    assert (back["Equation0_szCompareSign"], back["Equation0_szRight"]) == ("<", "2")
    assert back["m_szGotoStep"] == found["Schedule_Step1"]["m_szLabel"]
    labels = [found[f"Schedule_Step{k}"]["m_szLabel"] for k in range(6)]
    assert len(set(labels)) == 6
    assert any("sensor" in loss for loss in written.losses)


STEPS_THAT_FEW_CAN = {
    "profile": "profile: {points: [[10 s, 1C], [10 s, -1C]]}",
    "load": "discharge: {resistance: 1 Ohm, until: v_min, at_most: 3 h}",
    "chamber": "soak: {temperature: 40 degC, for: 1 h}",
    "stop the cell": "rest: {for: 1 h, stop: [{when: dV/dt, below: -1 V/h}]}",
}


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "biologic"])
@pytest.mark.parametrize("what", STEPS_THAT_FEW_CAN)
def test_what_a_target_cannot_do_is_refused_with_its_place(tmp_path, target, what):
    text = f"schema: batterylab.protocol/1\nname: hard\nsteps:\n  - {STEPS_THAT_FEW_CAN[what]}\n"
    try:
        plan = resolved(tmp_path, text)
    except BatterylabError as error:
        pytest.fail(str(error))
    with pytest.raises(BatterylabError, match=what) as caught:
        convert(plan, target, ["temperature"])
    assert "steps[0]" in str(caught.value)


class Link:
    """A link that remembers what was written."""

    name = "frame"

    def __init__(self):
        self.written = []
        self.clock = self

    def sleep(self, seconds):
        pass

    def write(self, text):
        self.written.append(text)


def test_keysight_commands_are_those_of_the_driver(tmp_path, monkeypatch):
    plan = resolved(tmp_path)
    steps = compile_segment(Segment(tuple(i.step for i in flat(plan))),
                            Guards(plan.voltage_limits_V))  # fmt: skip
    driver = Bt2200.__new__(Bt2200)
    driver.link = Link()
    monkeypatch.setattr(Bt2200, "check", lambda *_: None)
    monkeypatch.setattr(Bt2200, "_compare", lambda *_: None)
    monkeypatch.setattr(Bt2200, "_check_sequence", lambda *_: None)
    driver.load_sequence(1, steps)
    assert list(sequence_commands(1, steps)) == driver.link.written
    text = convert(plan, "keysight", ["temperature"]).text
    assert text.splitlines() == driver.link.written


def test_a_state_of_charge_becomes_a_charge_on_the_keysight(tmp_path):
    text = convert(resolved(tmp_path, TO_SOC), "keysight", ["temperature"]).text
    assert "SEQ:TEST:DEF 1,10,3,AMPH_GE,1,AFTER,0,NEXT" in text
    assert "SEQ:TEST:DEF 1,10,1,VOLT_GE,4.25,AFTER,0,FAIL" in text


def test_what_does_not_fit_the_keysight_is_refused(tmp_path):
    head = "schema: batterylab.protocol/1\nname: long\nsteps:\n  - repeat: {times: 1000}\n"
    text = head + "    steps:\n" + 3 * "      - rest: {for: 1 s}\n"
    with pytest.raises(BatterylabError, match="3000 steps in a row, a BT2200 holds 2048"):
        convert(resolved(tmp_path, text), "keysight", ["temperature"])


def test_a_long_row_is_spread_over_sequences(tmp_path):
    text = "schema: batterylab.protocol/1\nname: long\nsteps:\n  - repeat: {times: 300}\n"
    plan = resolved(tmp_path, text + "    steps:\n      - discharge: {rate: 1C, for: 10 s}\n")
    written = convert(plan, "keysight", ["temperature"])
    lines = [x for x in written.text.splitlines() if x.startswith("SEQ:STEP")]
    assert len(lines) == 300
    assert lines[255].startswith("SEQ:STEP:DEF 1,256,")
    assert lines[256].startswith("SEQ:STEP:DEF 2,1,")
    assert "2 sequences: the operator starts one after the other" in written.losses


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "neither PyBaMM"),
        ('["Charge at 1C"]', "step 1: 'Charge at 1C' is not understood"),
        ('["Hold at 4.2 V for 60 seconds or until 0.1 A"]', "step 1: 'Hold"),
        ('{"method": [{"step": "impedance_spectroscopy"}]}', "step 1: 'impedance"),
        ('{"method": [{"step": "constant_current", "rate_C": 1}]}', "without the sample's"),
        ('{"method": [{"step": "loop", "loop_to": "x", "cycle_count": 2}]}', "not nested"),
        ('{"method": 7}', "not unicycler's JSON"),
        ('{"method": []}', "steps"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, content, message):
    path = tmp_path / "in.json"
    path.write_text(content)
    with pytest.raises(BatterylabError) as caught:
        read_protocol(path, "again")
    assert message in str(caught.value)


def test_the_readers_keep_current_and_time():
    content = from_pybamm(["Discharge at 1.5 A for 30 seconds"], "a")
    assert content["steps"] == [{"discharge": {"current": "1.5 A", "for": "30 s"}}]
    content = from_unicycler({
        "sample": {"capacity_mAh": 2000}, "record": {"time_s": 5},
        "method": [{"step": "constant_current", "rate_C": -0.5, "until_time_s": 60}],
    }, "a")  # fmt: skip
    assert content["steps"] == [{"discharge": {"current": "1 A", "for": "60 s"}}]
    assert content["record"] == {"every": "5 s"}


def test_the_command_prints_file_and_losses_apart(tmp_path):
    done = CliRunner().invoke(protocol, ["convert", "gauge_capacity", "--to", "pybamm"])
    assert json.loads(done.stdout)["temperature"] == "25oC"
    assert "lost: safety: no stop outside -40 to 50 degC" in done.stderr
    out = tmp_path / "x.json"
    CliRunner().invoke(protocol, ["convert", "gauge_capacity", "--to", "pybamm", "-o", str(out)])
    assert out.read_text() == done.stdout


SENTENCES = [
    ("Discharge at C/10 for 10 hours or until 3.3 V",
     {"discharge": {"rate": "C/10", "for": "36000 s", "until": "3.3 V"}}),
    ("Charge at 1C until 4.1 V", {"charge": {"rate": "1C", "at_most": "24 h", "until": "4.1 V"}}),
    ("Charge at C for 1 min", {"charge": {"rate": "1C", "for": "60 s"}}),
    ("Discharge at 500 mA for 90 s", {"discharge": {"current": "500 mA", "for": "90 s"}}),
    ("Discharge at 12.5 W for 0.5 hours or until 2500 mV",
     {"discharge": {"power": "12.5 W", "for": "1800 s", "until": "2500 mV"}}),
    ("Rest for 1 hour", {"rest": {"for": "3600 s"}}),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "entry"), SENTENCES)
def test_pybamms_own_ways_to_say_it_are_read(sentence, entry):
    assert from_pybamm([sentence], "x")["steps"] == [entry]


def test_a_hold_follows_or_joins_the_charge_before_it():
    charge = "Charge at 1 A until 4.2 V"
    (joined,) = from_pybamm([charge, "Hold at 4.2 V until 50 mA"], "x")["steps"]
    assert joined["charge"]["hold_until"] == "50 mA"
    first, then = from_pybamm([charge, "Hold at 4.2 V for 1 hour"], "x")["steps"]
    assert "hold_until" not in first["charge"]
    assert then == {"hold": {"voltage": "4.2 V", "limit": "1 A", "by": "charge", "for": "3600 s"}}


@pytest.mark.parametrize("sentences", [
    ["Hold at 4.2 V for 1 hour"], ["Charge at 1 A until 4.1 V", "Hold at 4.2 V for 1 hour"],
    ["Charge at 1 A"], ["Charge at 1 Ohm for 1 hour"], ["Charge at 1 A for 1 fortnight"],
    ["Discharge at 5 W until 3 V", "Hold at 3 V for 1 hour"], ["Rest"], ["Hold at 4.2 V"],
])  # fmt: skip
def test_what_pybamm_says_and_we_do_not_read_is_named(sentences):
    with pytest.raises(BatterylabError, match="is not understood"):
        from_pybamm(sentences, "x")
