"""Run a simulated bench: every instrument of a bench file as a TCP server on this machine.

``python -m batterylab.simulated.process STUDY [PARENT [real-time]]`` prints one JSON line when all
ports listen, and ends on ``stop``, on a signal, or when the program that started it is gone.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError, EnvironmentFailedError

if TYPE_CHECKING:
    from batterylab.bench.clock import BenchClock

HOST = "127.0.0.1"
_SOCKET = re.compile(r"TCPIP\d*::(127\.0\.0\.1|localhost)::(\d{1,5})::SOCKET\Z", re.IGNORECASE)
STARTUP_s = 60.0
#: models that answer as another one does, and what their identity says instead
SIBLINGS = {"ea_bt20000": ("PSB 10060-120", "BT 20060-120"),
            "itech_6000c": ("IT-M3905D-80-120", "IT6006C-80-150")}  # fmt: skip
NOTE = Path("run", "simulation.json")
PORTS = range(16000, 32000)
_AT_THE_BENCH = ("load", "unload", "run", "recording")


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago.

    None of them is of the range that systems use for outgoing connections, so that none of
    those takes it before it is served.

    Raises
    ------
    EnvironmentFailedError
        If there are not so many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind((HOST, port))
            found.append(port)
    if len(found) < count:
        raise EnvironmentFailedError(f"there are no {count} free ports on this machine")
    return found


def _port_of(name: str, address: str) -> int:
    match = _SOCKET.match(address)
    if not match or not 0 < int(match[2]) < 65536:
        raise BatterylabError(
            f"{name}: {address!r} is no address of this machine",
            hint='a simulated instrument has one such as "TCPIP::127.0.0.1::15025::SOCKET"',
        )
    return int(match[2])


@dataclass(frozen=True)
class Plan:
    """What is to be served: by name, the port, the model and the serial number told.

    `stop_ports` are the dead-socket ports by name of the instrument: whoever connects there ends
    the instrument's sessions.
    """

    ports: dict[str, tuple[int, str, str]]
    clock_port: int
    stop_ports: dict[str, int] = field(default_factory=dict)


def plan_of(bench: Any, *, real_time: bool = False) -> Plan:
    """Return the ports of a bench file; in real time the control port is any free one (0).

    Raises
    ------
    BatterylabError
        If an address is not of this machine, or there is no clock, or one in real time.
    """
    if real_time and bench.clock_address is not None:
        raise BatterylabError(
            f"{bench.path.name}: with `clock` the bench's time is not the machine's",
            hint="take the line out, or leave --real-time away",
        )
    if bench.clock_address is None and not real_time:
        raise BatterylabError(
            f"{bench.path.name}: no clock: this is a real bench",
            hint='a simulated one has `clock: "127.0.0.1:15000"`, or runs with --real-time',
        )
    ports = {
        name: (_port_of(name, entry.address), entry.model, entry.serial)
        for name, entry in bench.instruments.items()
    }
    stop_ports = {name: entry.stop_port for name, entry in bench.instruments.items()
                  if entry.stop_port}  # fmt: skip
    return Plan(ports, 0 if real_time else bench.clock_address[1], stop_ports)


def make_world(study: Any, bench: Any, *, real_time: bool = False) -> Any:
    """Return the world that a study's simulation file and bench file describe.

    Cells that are loaded by the study's log sit in their channels, as they were delivered, and
    time goes on from there: a simulated bench that was ended can be started again.
    """
    from batterylab.simulated.population import draw_truths, read_simulation
    from batterylab.simulated.wires import wiring_of
    from batterylab.simulated.world import World

    simulation = read_simulation(study.path / "simulation.yaml")
    places = _places(bench)
    truths = draw_truths(simulation, study.cells.values())
    times = [entry["time_utc"] for kind in _AT_THE_BENCH for entry in study.log.entries(kind)]
    past_s = [datetime.fromisoformat(text).timestamp() for text in times]
    start_s = time.time() if real_time else max([simulation.start_s, *past_s])
    world = World(simulation.seed, start_s, truths, places, simulation.errors())
    world.wiring = wiring_of(bench)
    for entry in bench.channels.values():
        if world.by_name[entry.name].cycler_index < 0:
            world.add_supply(entry.name, entry.cycler)
    for interlock in bench.text.interlocks.values():
        world.wired_V[interlock.place] = 0.5 * sum(interlock.safe_V)
    for channel, serial in study.log.occupied().items():
        world.insert(serial, channel)
    return world


def _places(bench: Any) -> list[Any]:
    """Return the channels of a bench file as places of the world.

    Raises
    ------
    BatterylabError
        If there are two frames: the world behind the instruments has one.
    """
    from batterylab.bench.benchfile import role_of
    from batterylab.drivers.keysight_bt2200 import index_of
    from batterylab.simulated.world import Place

    frames = {entry.cycler for entry in bench.channels.values()
              if role_of(bench.instruments[entry.cycler].model) == "cycler"}  # fmt: skip
    if len(frames) > 1:
        raise BatterylabError(
            f"{bench.path.name}: a simulated bench has one frame, not {len(frames)}",
            hint=f"keep one of {', '.join(sorted(frames))}",
        )
    return [
        Place(entry.name, index_of(entry.cycler_channel) if entry.cycler in frames else -1,
              entry.scanner_channel, entry.shelf)
        for entry in bench.channels.values()
    ]  # fmt: skip


def _server_of(model: str, serial: str, world: Any, name: str = "") -> Any:
    """Return the line server of a model; `name` is what the bench file calls it.

    Raises
    ------
    BatterylabError
        If the model cannot be simulated.
    """
    from batterylab.simulated import bt2200, hioki, scpi, weiss

    if model == "keysight_bt2200":
        frame = bt2200.Bt2200(world, serial or "MY58000516")
        world.listeners.append(frame.keep)
        return scpi.LineServer(frame.answer)
    if model == "hioki_bt3562a":
        return scpi.LineServer(hioki.Bt3562a(world, name).answer, b"\r\n", b"\r\n")
    if model == "weiss_simserv":
        return scpi.LineServer(weiss.SimServ(world).answer, b"\r", b"\r\n")
    stage = world.supplies.get(name)
    return _supply_of(model, serial, world, stage) or _passive_of(
        model, serial, world, name
    )


def _supply_of(model: str, serial: str, world: Any, stage: Any) -> Any:
    """Return the server of a supply that the host steps."""
    from batterylab.simulated import ea, itech, keithley, scpi

    supply: Any
    if model in ("ea_psb10000", "ea_bt20000"):
        supply = ea.Psb10000(world, serial or "2023120002", stage)
    elif model in ("itech_m3900", "itech_6000c"):
        supply = itech.ItM3905(world, serial or "800123020777710012", stage)
    elif model in ("keithley_2450", "keithley_2460", "keithley_2461"):
        supply = keithley.Smu24xx(world, serial or "04412345", model[-4:], stage)
    else:
        return None
    for name, (old, new) in SIBLINGS.items():  # the same commands under another name
        if model == name:
            supply.identity = supply.identity.replace(old, new)
    return scpi.LineServer(supply.answer)


def _passive_of(model: str, serial: str, world: Any, name: str) -> Any:
    """Return the server of a further meter, scanner or chamber."""
    from batterylab.simulated import ag34970a, bt4560, daq970a, espec, scpi

    if model == "hioki_bt4560":
        meter = bt4560.Bt4560(world, serial or "220512345", name)
        return scpi.LineServer(meter.answer, b"\r\n", b"\r\n")
    if model == "keysight_daq970a":
        logger = ag34970a.Ag34970a(world, name)
        logger.identity = daq970a.identity(serial or "MY58001234")
        return scpi.LineServer(logger.answer)
    if model in ("keysight_34970a", "keysight_34972a"):
        scanner = ag34970a.Ag34970a(world, name)
        scanner.identity = scanner.identity.replace("34970A", model[-6:].upper())
        return scpi.LineServer(scanner.answer)
    if model == "espec_p300":
        return scpi.LineServer(espec.P300(world).answer, b"\r\n", b"\r\n")
    raise BatterylabError(f"the model {model!r} cannot be simulated")


async def serve(
    study: Any, bench: Any, *, parent: int | None = None, real_time: bool = False
) -> None:
    """Serve all instruments and the control port until told to stop.

    Every instrument can be told to fail, see `batterylab.simulated.control`. While it lasts, the
    study's ``run/simulation.json`` names the control port.

    Parameters
    ----------
    real_time : bool
        Whether time passes by itself, at the machine's pace, and not as the control port says.

    Raises
    ------
    EnvironmentFailedError
        If a port is in use.
    """
    from batterylab.simulated.control import Control
    from batterylab.simulated.faults import FaultyServer
    from batterylab.simulated.scpi import DeadSocket, LineServer

    plan = plan_of(bench, real_time=real_time)
    world = make_world(study, bench, real_time=real_time)
    ended = asyncio.Event()
    instruments = {name: FaultyServer(_server_of(model, serial, world, name))
                   for name, (_, model, serial) in plan.ports.items()}  # fmt: skip
    control = LineServer(Control(world, ended.set, instruments).answer)
    servers: dict[str, tuple[int, LineServer]] = {
        name: (port, instruments[name]) for name, (port, _, _) in plan.ports.items()
    }
    for name, port in plan.stop_ports.items():
        servers[f"{name} stop_port"] = (port, DeadSocket(instruments[name]))
    servers["clock"] = (plan.clock_port, control)
    ports = {}
    for name, (port, server) in servers.items():
        try:
            ports[name] = await server.serve(HOST, port)
        except OSError as error:
            raise EnvironmentFailedError(
                f"{name}: port {port} cannot be used: {error.strerror or error}",
                hint="is a simulated bench running already? Or change the ports in bench.yaml",
            ) from None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    note = study.path / NOTE
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps({"control": ports["clock"], "pid": os.getpid()}), "utf-8")
    print(json.dumps({"ready": ports}), flush=True)
    pace = asyncio.create_task(_follow_the_machine(world)) if real_time else None
    await _until(ended, parent)
    if pace is not None:
        pace.cancel()
    note.unlink(missing_ok=True)
    for _, server in servers.values():
        await server.close()


async def _follow_the_machine(world: Any) -> None:
    """Let the world's time be the machine's."""
    while True:
        world.advance(time.time())
        into_s = (time.time() - world.start_s) % world.tick_s
        await asyncio.sleep(world.tick_s - into_s + 1e-4)


def control_of(folder: Path) -> "BenchClock":
    """Return the control port of a study's simulated bench, open.

    Raises
    ------
    EnvironmentFailedError
        If none runs.
    """
    from batterylab.bench.clock import BenchClock

    try:
        port = int(json.loads((folder / NOTE).read_text(encoding="utf-8"))["control"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EnvironmentFailedError(
            f"{folder}: no simulated bench runs here",
            hint="start one with `batterylab bench simulate STUDY`",
        ) from None
    return BenchClock(HOST, port)


async def _until(ended: asyncio.Event, parent: int | None) -> None:
    """Wait for the end, or for the parent's."""
    while not ended.is_set():
        if parent is not None and os.getppid() != parent:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.5)


def start(folder: Path, *, real_time: bool = False) -> "subprocess.Popen[str]":
    """Start the simulated bench of a study in a process that ends with this one.

    Parameters
    ----------
    real_time : bool
        As in `serve`.

    Raises
    ------
    EnvironmentFailedError
        If it does not come up: with its own error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "batterylab.simulated.process", str(folder), str(os.getpid()),
         *(["real-time"] if real_time else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None  # noqa: S101
    line = process.stdout.readline()
    if '"ready"' not in line:
        process.terminate()
        _, errors = process.communicate(timeout=STARTUP_s)
        text = errors.strip().removeprefix("Error: ") or "it ended without a word"
        raise EnvironmentFailedError(f"the simulated bench did not start: {text}")
    return process


def finish(process: "subprocess.Popen[str]") -> None:
    """End a simulated bench and wait for it."""
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def run(folder: Path, parent: int | None = None, *, real_time: bool = False) -> None:
    """Serve a study's simulated bench in the foreground; see `serve`."""
    from batterylab.bench.benchfile import BenchFile
    from batterylab.study import Study

    study = Study.open(folder)
    bench = BenchFile.open(study.bench_path, study.cell_type)
    asyncio.run(serve(study, bench, parent=parent, real_time=real_time))


def main() -> None:
    """Entry of the process."""
    try:
        parent = int(sys.argv[2]) if len(sys.argv) > 2 else None
        run(Path(sys.argv[1]), parent, real_time="real-time" in sys.argv[3:])
    except BatterylabError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
