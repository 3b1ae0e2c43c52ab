"""`batterylab score`: what it prints, writes and returns."""

import json

import pytest
from click.testing import CliRunner
from supplier_tables import drawn_rows, frame, make_study

import batterylab.features
from batterylab.cli import cli, main
from batterylab.errors import NotMetError


@pytest.fixture
def score(tmp_path, monkeypatch):
    """Return a function that scores rows and returns exit code, stdout and the study."""

    def run(rows, *options):
        study = make_study(tmp_path / "s")
        monkeypatch.setattr(batterylab.features, "table", lambda *_: frame(rows))
        result = CliRunner().invoke(cli, ["score", str(study.path), *options])
        if isinstance(result.exception, NotMetError):
            return 3, result.stdout, study
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.stdout, study

    return run


GOOD = drawn_rows(means=(("Alpha", 5.24), ("Beta", 5.16)), lots=6)
ALIKE = drawn_rows(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=6)
MIDDLING = drawn_rows(seed=2, means=(("Alpha", 5.02), ("Beta", 5.2)))
BAD = drawn_rows(means=(("Alpha", 5.2), ("Beta", 4.9)), lots=6)


@pytest.mark.parametrize(
    ("rows", "plain", "required"), [(GOOD, 0, 0), (ALIKE, 0, 3), (MIDDLING, 0, 3), (BAD, 3, 3)]
)
def test_exit_codes(score, rows, plain, required):
    assert score(rows)[0] == plain
    assert score(rows, "--require-decision")[0] == required


def test_the_decision_stands_first_and_the_file_holds_what_json_prints(score):
    code, text, study = score(BAD)
    assert code == 3
    assert text.splitlines()[0] == "Decision: Alpha QUALIFY; Beta REJECT"
    written = json.loads((study.results / "scorecard.json").read_text())
    code, text, _ = score(BAD, "--json")
    assert code == 3
    assert json.loads(text) == written


def test_a_missing_study_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["score", "/nowhere"])
    assert caught.value.code == 2
    assert "there is no study.yaml here" in capsys.readouterr().err
