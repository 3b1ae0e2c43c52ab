"""The JSON Schema for editors takes what the language takes, and knows every key."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from protocol_maker import protocols
from ruamel.yaml import YAML

from batterylab.protocol import names
from batterylab.protocol.schema import json_schema

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DOCS = Path(__file__).parents[2] / "docs"


def loaded(text):
    return YAML(typ="safe").load(text)


def test_the_schema_is_one_and_the_published_file_is_it():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    published = json.loads((DOCS / "protocol.schema.json").read_text())
    assert published == SCHEMA, "batterylab protocol schema -o docs/protocol.schema.json"


@pytest.mark.parametrize("name", names())
def test_the_shipped_protocols_satisfy_it(name):
    VALIDATOR.validate(loaded(names()[name].read_text()))


def test_the_documents_examples_satisfy_it():
    for example in re.findall(r"```yaml\n(.*?)```", (DOCS / "protocols.md").read_text(), re.DOTALL):
        steps = "".join(f"  {line}\n" for line in example.splitlines())
        whole = f"schema: batterylab.protocol/1\nname: p\nsteps:\n{steps}"
        VALIDATOR.validate(loaded(example if example.startswith("schema:") else whole))


@settings(max_examples=40, deadline=None)
@given(protocols)
def test_whatever_the_language_takes_satisfies_it(content):
    VALIDATOR.validate(content)


@pytest.mark.parametrize(
    "step",
    [
        "{charge: {rate: C/3, fro: 10 s}}", "{rest: {for: 10}}", "{repeat: {times: 0}, steps: []}",
        "{measure: {what: weight}}", "{soak: {temperature: 20 degC}}", "{charged: {rate: C/3}}",
    ],
)  # fmt: skip
def test_what_is_wrong_does_not(step):
    text = f"schema: batterylab.protocol/1\nname: p\nsteps:\n  - {step}\n"
    assert list(VALIDATOR.iter_errors(loaded(text)))


def test_a_parameter_may_stand_for_a_number():
    text = """\
schema: batterylab.protocol/1
name: p
parameters: {n: 3, r: C/3}
steps:
  - repeat: {times: $n}
    steps: [{discharge: {rate: $r, for: 10 s}}]
"""
    VALIDATOR.validate(loaded(text))
