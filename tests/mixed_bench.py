"""A bench of every kind of cycler: one channel each, their cells in one world."""

from small_bench import free_ports

from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

INSTRUMENTS = ("frame", "supply", "itech", "smu", "small", "temps", "meter", "chamber", "clock")
#: name of the channel by instrument
CHANNELS = {"frame": "F-1", "supply": "E-1", "itech": "I-1", "smu": "K-1", "small": "S-1"}

BENCH = """\
schema: batterylab.bench/1
name: mixed
instruments:
  frame: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{frame}::SOCKET"}}
  supply: {{model: ea_psb10000, address: "TCPIP::127.0.0.1::{supply}::SOCKET", sample: {sample}}}
  itech: {{model: itech_m3900, address: "TCPIP::127.0.0.1::{itech}::SOCKET", sample: {sample}}}
  smu: {{model: keithley_2460, address: "TCPIP::127.0.0.1::{smu}::SOCKET", sample: {sample}}}
  small: {{model: keithley_2450, address: "TCPIP::127.0.0.1::{small}::SOCKET", sample: {sample}}}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
channels:
{channels}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}}
poll: 10 s
clock: "127.0.0.1:{clock}"
"""
CHANNEL = '  - {{name: {name}, cycler: {cycler}, channel: {channel}, temperature: "temps:{place}", chamber: chamber}}'  # noqa: E501
#: what every model can carry out: the smallest gives 1 A
GENTLE = """\
schema: batterylab.protocol/1
name: gentle
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 min}
steps:
  - rest: {for: 30 s}
  - discharge: {current: 0.9 A, for: 10 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 40 s}
  - charge: {current: 0.9 A, until: 3.62 V, hold_until: 0.6 A, at_most: 1 h}
    measure: part
  - discharge: {current: 0.8 A, until: 3.55 V, at_most: 1 h}
  - rest: {for: 30 s}
record: {every: 30 s, or_when: {voltage_moves: 5 mV}}
"""


def mixed_study(folder, protocol=GENTLE, *, only=tuple(CHANNELS), seed=1, sample="1 s"):
    """Write a study with one cell for each cycler of `only`; return it opened."""
    ports = dict(zip(INSTRUMENTS, free_ports(len(INSTRUMENTS)), strict=True))
    name = next(line.split()[1] for line in protocol.splitlines() if line.startswith("name:"))
    lines = [
        CHANNEL.format(name=CHANNELS[cycler], cycler=cycler, place=101 + place,
                       channel=101 if cycler == "frame" else 1)
        for place, cycler in enumerate(CHANNELS) if cycler in only
    ]  # fmt: skip
    write_study(folder, seed=seed, size=Size(1, 1, len(only)), protocols=(name,))
    (folder / "bench.yaml").write_text(
        BENCH.format(channels="\n".join(lines), sample=sample, **ports)
    )
    (folder / "protocols" / f"{name}.yaml").write_text(protocol)
    return Study.open(folder)
