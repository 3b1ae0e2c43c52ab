"""Files that people write, and the mistakes they make in them."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from batterylab.errors import BatterylabError, ProblemsError
from batterylab.quantity import Voltage_V
from batterylab.yamlfile import load_yaml, read_model


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit_V: Voltage_V = Field(alias="limit")


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_: str = Field("batterylab.thing/1", alias="schema")
    name: str
    parts: list[Inner] = []


def written(tmp_path, text):
    path = tmp_path / "thing.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_mistake_is_told_with_line_key_and_remedy(tmp_path):
    path = written(
        tmp_path,
        "schema: batterylab.thing/1\nnmae: x\nparts:\n  - {limit: 4.2 V}\n  - {limit: 4.2}\n"
        "  - {limit: 3 mA}\n",
    )
    with pytest.raises(ProblemsError) as caught:
        read_model(path, Outer)
    text = str(caught.value)
    assert "thing.yaml:2 (nmae): unknown key 'nmae'\n  hint: did you mean 'name'?" in text
    assert "(name): the key 'name' is missing" in text
    assert "thing.yaml:5 (parts.1.limit): 4.2 has no unit" in text
    assert "thing.yaml:6 (parts.2.limit)" in text
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: batterylab.thing/2\nname: x\n", "newer than this batterylab reads"),
        ("name: x\n", "there is no schema"),
        ("schema: batterylab.study/1\nname: x\n", "not the one of this file"),
        ("a: 1\na: 2\n", "the key 'a' stands twice"),
        ("a:\n\tb: 1\n", "a tab in the indentation"),
        (b"a: \xff\xfe\n", "not UTF-8"),
        ("a: [1, 2\n", "not YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "tag"),
        ("a: &x [*x]\n", "contains itself|not YAML"),
        ("", "the file is empty"),
        ("- 1\n", "must hold keys and values"),
        (f"a: {'9' * 5000}\n", "too long"),
        ("a: " + "[" * 5000 + "\n", "nested too deeply|not YAML|too many"),
        ("? [1]\n: 2\n", "a key must be a word"),
    ],
)
def test_a_trick_ends_in_one_clear_error_at_once(tmp_path, text, message):
    started = time.process_time()
    with pytest.raises(BatterylabError, match=message):
        read_model(written(tmp_path, text), Outer)
    assert time.process_time() - started < 1.0


def test_a_billion_laughs_is_refused_within_a_second(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    started = time.process_time()
    with pytest.raises(BatterylabError, match="too many values"):
        load_yaml(written(tmp_path, "\n".join(lines)))
    assert time.process_time() - started < 1.5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BatterylabError, match=r"no\.yaml: there is no such file"):
        load_yaml(tmp_path / "no.yaml")


@given(content=st.binary(max_size=300))
def test_any_bytes_give_data_or_our_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "f.yaml"
    path.write_bytes(content)
    with contextlib.suppress(BatterylabError):
        load_yaml(path)
