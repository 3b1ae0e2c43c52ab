"""Calls, parameters and lists of values."""

import time

import pytest
from protocol_maker import CELL

from batterylab.errors import ProblemsError
from batterylab.protocol import load

HEAD = "schema: batterylab.protocol/1\nname: p\n"
FULL = "  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}\n"
PROCEDURE = """\
procedures:
  pulse_at:
    parameters: {soc: null, rate: 1C, n: 2}
    steps:
      - discharge: {rate: C/3, to_soc: $soc, at_most: 3 h}
      - repeat: {times: $n}
        steps:
          - pulse: {discharge: $rate, for: 10 s}
            measure: dcir_$n
"""


def resolved(folder, text):
    path = folder / "p.yaml"
    path.write_text(HEAD + text)
    return load(path, [folder]).resolve(CELL)


def told(folder, text):
    with pytest.raises(ProblemsError) as caught:
        resolved(folder, text)
    return [(p.where, p.what, p.remedy) for p in caught.value.problems]


def test_a_call_puts_its_values_in_and_keeps_numbers_numbers(tmp_path):
    plain = resolved(tmp_path, PROCEDURE + "steps:\n" + FULL + """\
  - call: pulse_at
    with: {soc: 80 %, rate: C/2}
  - call: pulse_at
    with: {soc: 50 %, n: 3}
""")
    steps = list(plain.steps())
    assert [s.to_soc_percent for s in steps if s.to_soc_percent] == [80.0, 50.0]
    assert [(s.current_A, s.measure) for s in steps if s.kind == "pulse"] == [
        (-2.5, "dcir_2"), (-5.0, "dcir_3"),
    ]  # fmt: skip
    assert [node.times for node in plain.nodes if hasattr(node, "times")] == [2, 3]
    assert steps[1].path == "procedures.pulse_at.steps[0]"
    assert plain.lines[steps[1].path].startswith("p.yaml:7 (procedures.pulse_at.steps.0")


def test_lists_of_values_nest(tmp_path):
    plain = resolved(tmp_path, "steps:\n" + FULL + """\
  - repeat: {each_temperature: [10 degC, 40 degC]}
    steps:
      - soak: {temperature: each_temperature, for: 1 h}
      - repeat: {each_rate: [C/2, 2C]}
        steps:
          - pulse: {discharge: each_rate, for: 10 s, rest: 1 min}
""")
    steps = list(plain.steps())
    assert [s.air.temperature_degC for s in steps if s.air] == [10.0, 40.0]
    assert [s.current_A for s in steps if s.kind == "pulse"] == [-2.5, -10.0] * 2


def test_another_protocol_is_called_by_name_with_parameters(tmp_path):
    (tmp_path / "inner.yaml").write_text(
        "schema: batterylab.protocol/1\nname: inner\nparameters: {rate: C/3}\nsteps:\n"
        "  - discharge: {rate: $rate, for: 10 s}\n"
    )
    plain = resolved(tmp_path, "steps:\n  - call: inner\n    with: {rate: 1C}\n  - call: inner\n")
    steps = list(plain.steps())
    assert [s.current_A for s in steps] == pytest.approx([-5.0, -5 / 3])
    assert steps[0].path == "inner:steps[0]"
    assert next(load(tmp_path / "inner.yaml").resolve(CELL).steps()).current_A < -1.6


MISTAKES = [
    ("steps:\n  - call: pulse_a\n", "no procedure or protocol 'pulse_a'", "'pulse_at'?"),
    ("steps:\n  - call: pulse_at\n", "pulse_at needs soc", "with: {soc: …}"),
    ("steps:\n  - call: pulse_at\n    with: {sok: 50 %}\n", "no parameter 'sok'", "'soc'"),
    ("steps:\n  - call: pulse_at\n    times: 3\n", "a call has a name and with", "call: name"),
    ("steps:\n  - rest: {for: $x}\n", "there is no parameter 'x'", "parameters: {x: …}"),
    ("parameters: {x: null}\nsteps:\n  - rest: {for: $x}\n", "'x' has no value", "with: {x"),
    ("parameters: [1]\nsteps:\n  - rest: {for: 1 s}\n", "names and values", "rate: C/3"),
    ("parameters: {A b: 1}\nsteps:\n  - rest: {for: 1 s}\n", "no name of a parameter", "a-z"),
    ("parameters: {a: [1]}\nsteps:\n  - rest: {for: 1 s}\n", "one text or number", "rate"),
    ("steps:\n  - rest: {for: 1 s}\n", "'pulse_at' is never called", "remove it"),
    ("steps:\n  - repeat: {each_soc: []}\n    steps: [{rest: {for: 1 s}}]\n", "at least 1", ""),
    ("steps:\n  - repeat: {each_soc: [50 %], times: 2}\n    steps: [{rest: {for: 1 s}}]\n",
     "times and each_soc?", "times: 3"),
    ("steps:\n  - call: pulse_at\n    with: {soc: fifty}\n", "'fifty': not a number", "30 min"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "remedy"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_remedy(tmp_path, text, what, remedy):
    found = told(tmp_path, PROCEDURE + text)
    assert any(what in said and remedy in hint for _, said, hint in found), found
    assert all(where.startswith("p.yaml:") for where, _, _ in found)


def test_what_calls_itself_is_told_and_not_followed(tmp_path):
    text = """\
procedures:
  a: {steps: [{call: b}]}
  b: {steps: [{call: a}]}
steps:
  - call: a
"""
    assert any("'a' calls itself" in said for _, said, _ in told(tmp_path, text))
    (tmp_path / "p.yaml").write_text(HEAD + "steps:\n  - call: p\n  - call: p\n")
    with pytest.raises(ProblemsError, match="'p' calls itself"):
        load("p", [tmp_path])


def test_a_file_that_expands_without_end_is_refused_soon(tmp_path):
    values = ", ".join(["1C"] * 150)
    text = "steps:\n" + "".join(
        "  " * (2 * depth + 1) + f"- repeat: {{each_rate: [{values}]}}\n"
        + "  " * (2 * depth + 2) + "steps:\n" for depth in range(4)
    ) + "  " * 9 + "- rest: {for: 1 s}\n"  # fmt: skip
    began = time.process_time()
    assert any("expands to more than" in said for _, said, _ in told(tmp_path, text))
    assert time.process_time() - began < 20
    calls = "".join(f"  p{i}: {{steps: [{{call: p{i + 1}}}, {{call: p{i + 1}}}]}}\n"
                    for i in range(40))  # fmt: skip
    text = f"procedures:\n{calls}  p40: {{steps: [{{rest: {{for: 1 s}}}}]}}\nsteps:\n  - call: p0\n"
    assert any("expands to more than" in said for _, said, _ in told(tmp_path, text))
