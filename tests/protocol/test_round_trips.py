"""Random protocols go to other programs and come back: equal, or it is said why not."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from protocol_maker import CELL, protocols, resolved_of

from batterylab.errors import BatterylabError, ProblemsError
from batterylab.protocol import load
from batterylab.protocol.convert import TARGETS, convert
from batterylab.protocol.convert.pybammstrings import experiment
from batterylab.protocol.convert.read import read_protocol
from batterylab.protocol.convert.unicycler import method

SLOW = settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
WATCHED = ["temperature"]


def written_for(content, target, folder):
    """Return a random protocol in numbers and what is written for a target, or skip it."""
    try:
        plan = resolved_of(content, folder)
    except BatterylabError:
        assume(False)
    try:
        return plan, convert(plan, target, WATCHED if TARGETS[target].drives_cells else [])
    except BatterylabError as error:
        assert str(error).strip()  # it says why
        assume(False)


def back(text, folder):
    """Return the protocol that comes back from another program's file."""
    file, again = folder / "other.json", folder / "again.yaml"
    file.write_text(text)
    again.write_text(read_protocol(file, "again"))
    return load(again).resolve(CELL)


@SLOW
@given(protocols)
def test_pybamms_sentences_come_back(content):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, written = written_for(content, "pybamm", folder)
        sentences = json.loads(written.text)["operating_conditions"]
        assume(sentences)
        try:
            again = back(written.text, folder)
        except ProblemsError as error:  # a current that ends a step, not below the step's own
            assert "is not below the step's" in str(error)
            assume(False)
        assert experiment(again) == sentences


@SLOW
@given(protocols)
def test_unicyclers_steps_come_back(content):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, written = written_for(content, "unicycler", folder)
        data = json.loads(written.text)
        try:
            again = back(written.text, folder)
        except ProblemsError as error:
            assert "is not below the step's" in str(error)
            assume(False)
        plain = [step for step in data["method"] if step["step"] not in ("tag", "loop")]
        ours = [step for step in method(again)["method"] if step["step"] not in ("tag", "loop")]
        assert len(ours) == len(plain)
        for one, other in zip(ours, plain, strict=True):
            assert one == pytest.approx(other)


@SLOW
@given(protocols)
def test_every_target_writes_or_says_why_not(content):
    with tempfile.TemporaryDirectory() as name:
        try:
            plan = resolved_of(content, Path(name))
        except BatterylabError:
            assume(False)
        for target in TARGETS:
            try:
                watched = WATCHED if TARGETS[target].drives_cells else []
                written = convert(plan, target, watched)
            except BatterylabError as error:
                assert str(error).strip()
            else:
                assert written.text
                assert all(loss.strip() for loss in written.losses)
