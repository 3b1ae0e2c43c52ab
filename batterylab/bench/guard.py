"""The guard: a second process that makes the channels safe if the runner dies or hangs.

It tries its ways to the instruments before any current flows, listens to the runner's heartbeat
on its standard input, and needs nothing of the runner to act. If the heartbeat is lost, it kills
the runner, so that nobody else talks to the instruments, stops the channels by the path that each
model's file names, and reads back. It ends when told ``done``.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from batterylab.bench.pulse import LOST, Pulse
from batterylab.errors import BatterylabError, EnvironmentFailedError

SILENCE_s = 1.0
STARTUP_s = 60.0
TRIES = 10
DISMISS_s, ACT_s = 10.0, 120.0
#: a runner that waits for a processor is not hung: it gets this many silences more
GRACE = 3
#: share of a silence that a starved runner spends on a processor at most
STARVED_SHARE = 0.3
SIGKILL_s = 0.5


class GuardProcess:
    """The runner's end of the guard.

    Parameters
    ----------
    study : Path
        The study's folder.
    channels : list of str
        To be made safe.
    silence_s : float
        How long the runner may be silent.

    Raises
    ------
    EnvironmentFailedError
        If the guard does not come up: then nothing is started.
    """

    def __init__(self, study: Path, channels: list[str], silence_s: float = SILENCE_s) -> None:
        command = [sys.executable, "-m", "batterylab.bench.guard", str(study), str(silence_s)]
        self._process = subprocess.Popen(
            [*command, str(os.getpid()), *channels], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101  (a pipe was asked for)
        ready, _, _ = select.select([self._process.stdout], [], [], STARTUP_s)
        line = self._process.stdout.readline() if ready else ""
        if line.strip() != "ready":
            self._process.kill()
            _, errors = self._process.communicate()
            raise EnvironmentFailedError(f"the guard did not start: {errors.strip()[-500:]}")
        self._pulse = Pulse(self._say)
        self._pulse.start()

    def beat(self) -> None:
        """Tell the guard that the runner's main loop is well.

        Raises
        ------
        EnvironmentFailedError
            If the guard is gone: a run without a guard does not go on.
        """
        self._pulse.check_in()

    def allow(self, seconds: float) -> None:
        """Tell the guard that the next thing that the main loop does may take so long."""
        self._pulse.allow(seconds)

    def rest(self) -> None:
        """Tell the guard that no current flows: until the next beat, silence is no alarm."""
        self._pulse.rest()

    def _say(self, word: str) -> None:
        try:
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise EnvironmentFailedError(LOST) from None

    def dismiss(self, *, is_safe: bool = True) -> None:
        """Tell the guard that all is over, and wait for its end.

        Parameters
        ----------
        is_safe : bool
            If False, it is told that the channels are not known to be safe, and acts.
        """
        self._pulse.stop()
        with contextlib.suppress(EnvironmentFailedError):
            self._say("done" if is_safe else "unsafe")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=DISMISS_s if is_safe else ACT_s)
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def watch(
    read_line: Callable[[float | None], str | None], silence_s: float,
    is_starved: Callable[[], bool] = lambda: False,
) -> str:  # fmt: skip
    """Listen until the runner is done or in trouble.

    Parameters
    ----------
    read_line : callable
        Takes a time limit in s, or None to wait for ever; returns a line, an empty string at
        the end of the stream, or None if nothing came in time.
    silence_s : float
        Longest silence, but for that after ``rest``.
    is_starved : callable
        Says whether the runner only waits for a processor.

    Returns
    -------
    str
        Why to act; empty if the runner said ``done``.
    """
    limit_s: float | None = silence_s
    grace = 0
    while True:
        line = read_line(limit_s)
        if line is None and grace < GRACE and is_starved():
            grace += 1
            continue
        limit_s = None if line is not None and line.strip() == "rest" else silence_s
        if line is None:
            return f"the runner was silent for {silence_s * (1 + grace):g} s"
        grace = 0
        if line == "":
            return "the runner is gone"
        if line.strip() == "unsafe":
            return "the runner could not confirm the safe state"
        if line.strip() == "done":
            return ""


class Ear:
    """Reads lines from a pipe with a time limit.

    Parameters
    ----------
    handle : int
        The pipe; read past Python's own buffers, in which `select` sees nothing.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._heard = b""

    def read_line(self, limit_s: float | None) -> str | None:
        """Return a line, an empty string at the end, or None if nothing came in time."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._handle], [], [], limit_s)
            if not ready:  # what came while this process waited for a processor counts
                ready, _, _ = select.select([self._handle], [], [], 0)
            if not ready:
                return None
            data = os.read(self._handle, 4096)
            if not data:
                return ""
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("ascii", "replace") + "\n"


class Subject:
    """The runner as the system shows it.

    Parameters
    ----------
    number : int
        Of the process; this one's parent.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._ticks, self._seen_s = self._used(), time.monotonic()

    def _fields(self) -> list[str]:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.number}/stat").read_text(encoding="ascii", errors="replace")
            return text.rpartition(")")[2].split()
        return []

    def _used(self) -> float:
        """Return the processor time used so far, in s."""
        fields = self._fields()
        ticks = sum(map(int, fields[11:13])) if len(fields) > 12 else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def is_starved(self) -> bool:
        """Say whether it wants to run and hardly could since the last question."""
        used_s, now_s = self._used(), time.monotonic()
        share = (used_s - self._ticks) / max(now_s - self._seen_s, 1e-3)
        self._ticks, self._seen_s = used_s, now_s
        return self._fields()[:1] == ["R"] and share < STARVED_SHARE

    def kill(self) -> bool:
        """Kill it, with its process group where it leads one; say whether it lived."""
        if os.getppid() != self.number:
            return False
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(self.number) == self.number == os.getsid(self.number):
                os.killpg(self.number, signal.SIGKILL)
            else:  # in the foreground its group is the shell's job, with others in it
                os.kill(self.number, signal.SIGKILL)
        deadline_s = time.monotonic() + SIGKILL_s
        while os.getppid() == self.number and time.monotonic() < deadline_s:
            time.sleep(0.005)
        return True


class Stops:
    """The ways to stop a bench's channels, without the runner.

    Parameters
    ----------
    folder : Path
        The study's.
    channels : list of str
        To be made safe.
    """

    def __init__(self, folder: Path, channels: list[str]) -> None:
        from batterylab.bench.benchfile import BenchFile
        from batterylab.bench.clock import WallClock

        self.folder = folder
        self.channels = channels
        self.file = BenchFile.open(folder / "bench.yaml")
        self.clock = WallClock()
        self._open: dict[str, Any] = {}
        #: unix time by instrument at which its output went off
        self._off_s: dict[str, float] = {}

    @property
    def numbers(self) -> dict[str, list[int]]:
        """The channels' own numbers by instrument."""
        found: dict[str, list[int]] = {}
        for channel in self.channels:
            entry = self.file.channels[channel]
            found.setdefault(entry.cycler, []).append(entry.cycler_channel)
        return found

    def _driver(self, name: str) -> Any:
        from batterylab.drivers.catalogue import open_instrument

        entry = self.file.instruments[name]
        return open_instrument(name, entry.model, entry.address, entry.serial, self.clock)

    def try_all(self) -> None:
        """Make sure that each path is there; second sessions stay open.

        Raises
        ------
        BatterylabError
            If an instrument cannot be reached by the path that its model's file names.
        """
        for name in self.numbers:
            path = self.file.stop_path(name)
            if path.kind == "second session":
                self._open[name] = self._driver(name)
            elif path.kind == "dead-socket port":
                path.hang_up()
                self._driver(name).close()

    def act(self, reason: str) -> None:
        """Make the channels safe, and write what was done beside the run.

        Raises
        ------
        EnvironmentFailedError
            If the safe state could not be confirmed.
        """
        from batterylab.bench.notify import notify
        from batterylab.bench.pace import at_once
        from batterylab.studylog import utc_text

        began_s = time.monotonic()
        numbers = self.numbers
        jobs = [partial(self._stop, name, numbers[name]) for name in numbers]
        errors = [str(error) for error in at_once(self.clock, jobs) if error is not None]
        problem = "\n".join(errors)
        path = self.folder / "run" / "guard.json"
        path.parent.mkdir(exist_ok=True)
        earlier = self._earlier(path)
        off_s = {name: earlier.get(name, self._off_s.get(name, time.time())) for name in numbers}
        report = {"time_utc": utc_text(), "off_s": off_s, "reason": reason,
                  "channels": self.channels, "is_safe": not problem, "problem": problem,
                  "took_s": round(time.monotonic() - began_s, 3)}  # fmt: skip
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
        temporary.replace(path)
        safe = "all channels are safe" if not problem else f"NOT CONFIRMED SAFE: {problem}"
        notify(self.file.text.notify, "alarm", self.folder.resolve().name,
               f"the guard acted: {reason}; {safe}")  # fmt: skip
        if problem:
            raise EnvironmentFailedError(problem)

    @staticmethod
    def _earlier(path: Path) -> dict[str, float]:
        """Return since when nothing flows, if an earlier stop counts still.

        It does until something began again: a run that begins takes the report away.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if earlier["is_safe"]:
                return {str(name): float(unix_s) for name, unix_s in earlier["off_s"].items()}
        return {}

    def _stop(self, name: str, numbers: list[int]) -> None:
        """Make one instrument's channels safe, over a link that is open or a fresh one."""
        for attempt in range(TRIES):
            try:
                if name not in self._open:
                    self._open[name] = self._fresh(name)
                driver = self._open[name]
                if hasattr(driver, "start"):
                    driver.make_safe(numbers)
                else:
                    driver.make_safe()
                self._off_s[name] = float(getattr(driver, "off_s", time.time()))
                return
            except BatterylabError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(1.0)

    def _fresh(self, name: str) -> Any:
        path = self.file.stop_path(name)
        if path.kind == "dead-socket port":
            with contextlib.suppress(BatterylabError):  # the runner's socket may be gone already
                path.hang_up()
        return self._driver(name)


def main() -> None:
    """Entry of the process: study, silence in s, the runner's number, channels."""
    folder, silence_s, runner = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    try:
        stops = Stops(folder, sys.argv[4:])
        stops.try_all()
    except BatterylabError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    subject = Subject(runner)
    print("ready", flush=True)
    reason = watch(Ear(sys.stdin.fileno()).read_line, silence_s, subject.is_starved)
    if not reason:
        return
    if reason.startswith("the runner was silent") and subject.kill():
        reason += ", and was killed"
    try:
        stops.act(reason)
    except BatterylabError as error:
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
