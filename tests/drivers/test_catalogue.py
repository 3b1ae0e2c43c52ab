"""The contract: every instrument file is complete, and its driver fills its role."""

import inspect
import re
from typing import Any, Protocol

import pytest

from batterylab.bench.clock import WallClock
from batterylab.drivers import catalogue, roles
from batterylab.errors import BatterylabError, EnvironmentFailedError

MODELS = sorted(catalogue.models())
ROLES: dict[str, Any] = {
    "cycler": roles.CyclerFrame,
    "host_stepped": roles.HostStepped,
    "scanner": roles.Scanner,
    "meter": roles.Meter,
    "chamber": roles.Chamber,
}
QUANTITIES = {
    "cycler": {"current_A", "voltage_V"},
    "host_stepped": {"current_A", "voltage_V"},
    "scanner": {"temperature_degC"},
    "meter": {"resistance_ohm", "voltage_V"},
    "chamber": {"temperature_degC"},
}
GOOD = """
driver = "batterylab.drivers.hioki_bt3562a:Bt3562a"
role = "meter"
identity = 'HIOKI,.*'
safe_state = "passive"
source = "a manual, chapter 8"
[link]
timeout_s = 1.0
[ranges]
voltage_V = [0.0, 6.0]
[accuracy]
voltage_V = {reading = 1e-4, offset = 0.0}
"""


def wanted_methods(role: type) -> dict[str, Any]:
    """Return the methods of a role, its bases' included."""
    return {
        name: member
        for base in role.__mro__
        if base not in (object, Protocol)
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Return a laboratory's own folder of instruments."""
    monkeypatch.setenv("BATTERYLAB_INSTRUMENTS", str(tmp_path))
    return tmp_path


def test_the_instruments_of_the_bench_are_known():
    assert set(MODELS) >= {
        "keysight_bt2200", "ea_psb10000", "itech_m3900", "keithley_2450", "keithley_2460",
        "hioki_bt3562a", "hioki_bt4560", "keysight_34970a", "keysight_daq970a", "weiss_simserv",
        "espec_p300",
    }  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_simulated_instrument_that_its_file_recognises(instrument, model):
    assert instrument(model).driver.identity().model


@pytest.mark.parametrize("model", MODELS)
def test_the_file_is_complete(model):
    spec = catalogue.spec(model)
    assert spec.role in ROLES
    assert len(spec.source) > 15, "cite the manual and the chapter"
    assert len(spec.safe_state) > 10, "say what is safe for what hangs on it"
    assert set(spec.accuracy) == QUANTITIES[spec.role]
    for entry in spec.accuracy.values():
        assert 0 <= entry["reading"] < 0.05 and entry["offset"] >= 0
        assert entry["reading"] + entry["offset"] > 0
    assert 0.1 <= spec.link.timeout_s <= 60
    assert spec.path is not None and spec.path.read_text("utf-8").startswith("#")


@pytest.mark.parametrize("model", MODELS)
def test_the_driver_fills_its_role(model):
    spec = catalogue.spec(model)
    driver = catalogue.driver_class(spec)
    for name, wanted in wanted_methods(ROLES[spec.role]).items():
        method = getattr(driver, name, None)
        assert callable(method), f"{driver.__name__} lacks {name}"
        has = list(inspect.signature(method).parameters)
        assert has == list(inspect.signature(wanted).parameters), f"{name}: {has}"


@pytest.mark.parametrize("model", MODELS)
def test_the_driver_is_documented(model):
    driver = catalogue.driver_class(catalogue.spec(model))
    assert inspect.getdoc(inspect.getmodule(driver))
    assert "__doc__" in vars(driver) and driver.__doc__
    for name, member in inspect.getmembers(driver, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(member), f"{name} has no docstring"


@pytest.mark.parametrize("model", MODELS)
def test_the_driver_knows_nothing_of_the_simulation_nor_of_protocols(model):
    source = inspect.getsource(inspect.getmodule(catalogue.driver_class(catalogue.spec(model))))
    assert not re.search(r"^\s*(from|import) batterylab\.(simulated|protocol)", source, re.M)
    assert "time.sleep" not in source, "waits go through the clock"


@pytest.mark.parametrize("name", ["cycler", "temps", "meter", "chamber"])
def test_the_simulated_instrument_is_recognised(bench, name):
    identity = bench[name].identity()
    assert identity.maker and identity.model


def test_another_instrument_at_the_address_is_told(bench):
    with pytest.raises(EnvironmentFailedError, match=r"chilled at .*which is no keysight_bt2200"):
        catalogue.open_instrument(
            "chilled", "keysight_bt2200", bench.address("temps"), "", bench.clock
        )


def test_the_serial_number_is_checked_where_there_is_one(bench):
    def opened(name, serial):
        model, address = bench.MODELS[name], bench.address(name)
        catalogue.open_instrument(name, model, address, serial, bench.clock).close()

    opened("cycler", "MY58000516")
    with pytest.raises(EnvironmentFailedError, match=r"cycler.*'MY58000516', not 'MY1'"):
        opened("cycler", "MY1")
    opened("meter", "210312345")  # the meter says 0, whoever it is
    with pytest.raises(EnvironmentFailedError, match="chamber"):
        opened("chamber", "1")


def test_nobody_at_the_address_is_told():
    with pytest.raises(EnvironmentFailedError, match=r"cycler at TCPIP::127.0.0.1::9::SOCKET"):
        catalogue.open_instrument(
            "cycler", "keysight_bt2200", "TCPIP::127.0.0.1::9::SOCKET", "", WallClock()
        )


def test_a_laboratorys_own_file_comes_first(own_folder):
    (own_folder / "hioki_bt3562a.toml").write_text(GOOD)
    (own_folder / "our_meter.toml").write_text(GOOD)
    assert catalogue.spec("hioki_bt3562a").source == "a manual, chapter 8"
    assert set(catalogue.models()) == {*MODELS, "our_meter"}


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(BatterylabError, match="keysight_bt2200"):
        catalogue.spec("keysight_bt220")


def test_a_folder_that_is_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("BATTERYLAB_INSTRUMENTS", str(tmp_path / "nowhere"))
    with pytest.raises(BatterylabError, match="nowhere is no folder"):
        catalogue.models()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('role = "meter"', 'role = "toaster"', "toaster"),
        ('role = "meter"', "", "role is missing"),
        ('source = "a manual, chapter 8"', 'source = ""', "source is missing"),
        ("'HIOKI,.*'", "'HIOKI,('", "regular expression"),
        ("hioki_bt3562a:Bt3562a", "hioki_bt3562a", "module:Class"),
        ("timeout_s = 1.0", "timeout_s = -1.0", "timeout_s"),
        ("timeout_s = 1.0", "time_s = 1.0", "time_s"),
        ("timeout_s = 1.0", 'encoding = ""', "encoding"),
        ("[0.0, 6.0]", "[6.0, 0.0]", r"\[low, high\]"),
        ("offset = 0.0", "offset = nan", "voltage_V"),
        ("offset = 0.0", "of = 0.0", "voltage_V"),
        ('role = "meter"', 'role = "meter"\nrolle = "x"', "rolle"),
        ("[link]", "[link", "bad.toml"),
    ],
)
def test_a_wrong_file_is_told_with_its_name(own_folder, old, new, told):
    assert old in GOOD
    (own_folder / "bad.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(BatterylabError, match=told) as caught:
        catalogue.spec("bad")
    assert "bad.toml" in str(caught.value)


def test_a_driver_that_is_not_there_is_told(own_folder):
    (own_folder / "bad.toml").write_text(GOOD.replace("hioki_bt3562a:", "not_there:"))
    with pytest.raises(BatterylabError, match="not_there"):
        catalogue.open_instrument("x", "bad", "TCPIP::127.0.0.1::9::SOCKET", "", WallClock())
