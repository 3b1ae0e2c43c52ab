"""The guard: a second process that makes the channels safe if the runner dies or hangs.

It opens its own links before any current flows, listens to the runner's heartbeat on its
standard input, and needs nothing of the runner to act. It ends when told ``done``.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from batterylab.errors import BatterylabError, EnvironmentFailedError

SILENCE_s = 20.0
BEAT_EVERY_s = 1.0
STARTUP_s = 60.0
TRIES = 10
DISMISS_s, ACT_s = 10.0, 120.0


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
        self._last = time.monotonic()
        command = [sys.executable, "-m", "batterylab.bench.guard", str(study), str(silence_s)]
        self._process = subprocess.Popen(
            [*command, *channels], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101  (a pipe was asked for)
        ready, _, _ = select.select([self._process.stdout], [], [], STARTUP_s)
        line = self._process.stdout.readline() if ready else ""
        if line.strip() != "ready":
            self._process.kill()
            _, errors = self._process.communicate()
            raise EnvironmentFailedError(f"the guard did not start: {errors.strip()[-500:]}")
        self.beat(force=True)

    def beat(self, *, force: bool = False) -> None:
        """Tell the guard that the runner is well, at most once a second.

        Raises
        ------
        EnvironmentFailedError
            If the guard is gone: a run without a guard does not go on.
        """
        now = time.monotonic()
        if not force and now - self._last < BEAT_EVERY_s:
            return
        self._last = now
        self._say("beat")

    def rest(self) -> None:
        """Tell the guard that no current flows: until the next beat, silence is no alarm."""
        self._last = 0.0
        self._say("rest")

    def _say(self, word: str) -> None:
        try:
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise EnvironmentFailedError("the guard is gone") from None

    def dismiss(self, *, is_safe: bool = True) -> None:
        """Tell the guard that all is over, and wait for its end.

        Parameters
        ----------
        is_safe : bool
            If False, nothing is said: the guard finds the runner gone, and acts.
        """
        if is_safe:
            with contextlib.suppress(EnvironmentFailedError):
                self._say("done")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=DISMISS_s if is_safe else ACT_s)
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def watch(read_line: Callable[[float | None], str | None], silence_s: float) -> str:
    """Listen until the runner is done or in trouble.

    Parameters
    ----------
    read_line : callable
        Takes a time limit in s, or None to wait for ever; returns a line, an empty string at
        the end of the stream, or None if nothing came in time.
    silence_s : float
        Longest silence, but for that after ``rest``.

    Returns
    -------
    str
        Why to act; empty if the runner said ``done``.
    """
    limit_s: float | None = silence_s
    while True:
        line = read_line(limit_s)
        limit_s = None if line is not None and line.strip() == "rest" else silence_s
        if line is None:
            return f"the runner was silent for {silence_s:g} s"
        if line == "":
            return "the runner is gone"
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
            if not ready:
                return None
            data = os.read(self._handle, 4096)
            if not data:
                return ""
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("ascii", "replace") + "\n"


def act(folder: Path, channels: list[str], reason: str) -> None:
    """Make channels safe over fresh links, and write what was done beside the run.

    Raises
    ------
    BatterylabError
        If the safe state could not be confirmed.
    """
    from batterylab.studylog import utc_text

    problem = ""
    for _ in range(TRIES):
        try:
            _make_safe(folder, channels)
            problem = ""
            break
        except BatterylabError as error:
            problem = str(error)
            time.sleep(1.0)
    report = {"time_utc": utc_text(), "reason": reason, "channels": channels,
              "is_safe": not problem, "problem": problem}  # fmt: skip
    path = folder / "run" / "guard.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
    temporary.replace(path)
    if problem:
        raise EnvironmentFailedError(problem)


def _make_safe(folder: Path, channels: list[str]) -> None:
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.clock import WallClock
    from batterylab.drivers.catalogue import open_instrument

    file = BenchFile.open(folder / "bench.yaml")
    problems = []
    for name in {file.channels[channel].cycler for channel in channels}:
        entry = file.instruments[name]
        numbers = [file.channels[c].cycler_channel for c in channels
                   if file.channels[c].cycler == name]  # fmt: skip
        try:
            driver = open_instrument(name, entry.model, entry.address, entry.serial, WallClock())
            try:
                driver.make_safe(numbers)
            finally:
                driver.close()
        except BatterylabError as error:
            problems.append(str(error))
    if problems:
        raise EnvironmentFailedError("\n".join(problems))


def main() -> None:
    """Entry of the process: study, silence in s, channels."""
    folder, silence_s, channels = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    try:
        _try_links(folder, channels)
    except BatterylabError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print("ready", flush=True)
    reason = watch(Ear(sys.stdin.fileno()).read_line, silence_s)
    if reason:
        try:
            act(folder, channels, reason)
        except BatterylabError as error:
            sys.exit(error.exit_code)


def _try_links(folder: Path, channels: list[str]) -> None:
    """Make sure that every cycler answers a second client."""
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.clock import WallClock
    from batterylab.drivers.catalogue import open_instrument

    file = BenchFile.open(folder / "bench.yaml")
    for name in {file.channels[channel].cycler for channel in channels}:
        entry = file.instruments[name]
        open_instrument(name, entry.model, entry.address, entry.serial, WallClock()).close()


if __name__ == "__main__":
    main()
