"""A run as a process of its own: it survives the terminal, can be asked, and can be stopped.

In the study's folder ``run/``: ``lock`` is held while the runner lives, ``pid`` names it,
``status.json`` says how far it is, ``socket`` takes ``stop``, ``output`` has what it said.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from batterylab.bench.clock import listening
from batterylab.bench.guard import GuardProcess
from batterylab.bench.session import (
    interrupted_runs,
    open_work,
    recover,
    resume_study,
    run_study,
)
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    PausedError,
    SafetyStopError,
)
from batterylab.study import Study

STATUS_EVERY_s = 0.5
STARTUP_s = 60.0
STOP_s = 120.0
PATIENCE_s = 0.5  # whoever asks whether a runner lives holds its lock for a moment
IN_USE = "another study or command is using this bench"


def run_folder(study: Study) -> Path:
    """Return where a running process of the study keeps its files."""
    return study.path / "run"


def _locked(path: Path, patience_s: float = 0.0) -> IO[str] | None:
    """Return the open lock file if nobody else holds it, or lets go of it soon."""
    deadline = time.monotonic() + patience_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        raise EnvironmentFailedError(f"{path}: cannot be opened: {error.strerror}") from None
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                stream.close()
                return None
            time.sleep(0.02)
        else:
            return stream


def bench_lock(study: Study) -> Path:
    """Return the lock that all studies on the same cyclers share."""
    from batterylab.bench.benchfile import BenchFile, fills

    file = BenchFile.open(study.bench_path, study.cell_type)
    cyclers = sorted(e.address for e in file.instruments.values() if fills(e.model) == "cycler")
    digest = hashlib.sha256("\n".join(cyclers).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"batterylab-{os.getuid()}-{digest}.lock"


@contextlib.contextmanager
def hold_bench(study: Study) -> Iterator[None]:
    """Keep everybody else off the study's cyclers.

    Raises
    ------
    EnvironmentFailedError
        If a run, or another command, has them.
    """
    if is_running(study):
        raise EnvironmentFailedError("this study is running", hint="`batterylab status`")
    lock = _locked(bench_lock(study), PATIENCE_s)
    if lock is None:
        raise EnvironmentFailedError(IN_USE, hint="`batterylab status` of the other study")
    try:
        yield
    finally:
        lock.close()


def is_running(study: Study) -> bool:
    """Say whether a runner of this study lives."""
    lock = run_folder(study) / "lock"
    if not lock.exists():
        return False
    stream = _locked(lock)
    if stream is None:
        return True
    stream.close()
    return False


def status_of(study: Study) -> dict[str, Any]:
    """Return what the last or current run says of itself."""
    path = run_folder(study) / "status.json"
    data: dict[str, Any] = {}
    lives = is_running(study)  # asked first: what a runner wrote before its end is then seen
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text(encoding="utf-8"))
    data["is_running"] = lives
    if not data["is_running"] and data.get("phase") not in (None, "ended", "paused"):
        data["phase"] = "died"
    data["loaded"] = study.log.occupied()
    if not lives:
        with contextlib.suppress(BatterylabError):
            data["interrupted"] = {
                each.path.stem: each.reason for each in interrupted_runs(study)
            }
    data = {key: value for key, value in data.items() if key != "interrupted" or value}
    with contextlib.suppress(OSError, ValueError):
        data["guard"] = json.loads((run_folder(study) / "guard.json").read_text(encoding="utf-8"))
    return data


class _Board:
    """Keeps status.json true, and hears who wants to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reason = ""
        self.is_paused = False
        self._written = 0.0
        self._server: socket.socket | None = None

    def write(self, data: dict[str, Any], *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._written < STATUS_EVERY_s:
            return
        self._written = now
        temporary = self.folder / "status.tmp"
        temporary.write_text(json.dumps({"pid": os.getpid(), **data}), encoding="utf-8")
        temporary.replace(self.folder / "status.json")

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason

    def listen(self) -> None:
        """Open the socket; its path may be long, so it is bound through the folder."""
        path = self.folder / "socket"
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        with _short(path) as short:
            self._server.bind(short)
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        server = self._server
        while server is not None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                word = connection.recv(100).decode("ascii", "replace").strip()
                if word == "stop":
                    self.stop("stopped by the operator")
                self.is_paused |= word == "pause"
                connection.sendall(b"ok\n" if word in ("stop", "pause") else b"unknown\n")

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            (self.folder / "socket").unlink(missing_ok=True)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a short name for a socket's path: their length is limited to about 100 bytes."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)


def run_here(
    study: Study, operator: str, report: Callable[[dict[str, Any]], None] | None = None,
    *, takes_interrupt: bool = True, resumes: bool = False, accepted: tuple[str, ...] = (),
) -> list[tuple[Path, str]]:  # fmt: skip
    """Run the study in this process, with a guard beside it.

    Parameters
    ----------
    takes_interrupt : bool
        Whether SIGINT ends the run as SIGTERM does; otherwise it raises KeyboardInterrupt.
    resumes : bool
        Whether to go on with an interrupted run, instead of sealing it.
    accepted : tuple of str
        What may differ from the last record then.

    Returns
    -------
    list of (Path, str)
        Each sealed recording, and why its channel was stopped; empty if it was not.

    Raises
    ------
    EnvironmentFailedError
        If the study or its bench is in use, or an instrument is lost.
    SafetyStopError
        If a channel was stopped for safety.
    KeyboardInterrupt
        If the run was stopped from outside; all channels are safe.
    """
    folder = run_folder(study)
    lock = _locked(folder / "lock", PATIENCE_s)
    shared = _locked(bench_lock(study), PATIENCE_s) if lock else None
    if lock is None or shared is None:
        if lock:
            lock.close()
        what = "this study is running" if lock is None else IN_USE
        raise EnvironmentFailedError(what, hint="`batterylab status`")
    if not resumes:
        (folder / "guard.json").unlink(missing_ok=True)
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    board = _Board(folder)
    before = signal.signal(signal.SIGTERM, lambda *_: board.stop("SIGTERM"))
    interrupt = signal.getsignal(signal.SIGINT)
    if takes_interrupt:
        signal.signal(signal.SIGINT, lambda *_: board.stop("SIGINT"))
    else:  # a shell that starts a command in the background has it ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work = partial(resume_study, accepted=accepted) if resumes else run_study
        return _guarded(study, operator, board, report, work, seals=not resumes)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
        board.close()
        (folder / "pid").unlink(missing_ok=True)
        shared.close()
        lock.close()


def _guarded(
    study: Study, operator: str, board: _Board, report: Callable[[dict[str, Any]], None] | None,
    work: Callable[..., list[tuple[Path, str]]], *, seals: bool,
) -> list[tuple[Path, str]]:  # fmt: skip
    board.write({"phase": "starting"}, force=True)
    board.listen()
    code, message, is_safe = 1, "", True
    guard: GuardProcess | None = None
    try:
        if seals:
            recover(study, operator)
        guard = GuardProcess(study.path, list(study.log.occupied()))

        def look() -> str:
            assert guard is not None  # noqa: S101
            guard.beat()
            if board.is_paused and not board.reason:
                raise PausedError("paused by the operator", hint="`batterylab resume` goes on")
            return board.reason

        def tell(data: dict[str, Any]) -> None:
            if data.get("phase") == "sealing":  # every channel is safe, and the disk takes its time
                assert guard is not None  # noqa: S101
                guard.rest()
            board.write(data)
            if report:
                report(data)

        with listening(guard.allow):
            done = work(study, operator, report=tell, should_stop=look)
        stopped = {path.parent.name: why for path, why in done if why}
        if board.reason:
            raise KeyboardInterrupt(board.reason)
        if stopped:
            lines = [f"{serial}: {why}" for serial, why in stopped.items()]
            raise SafetyStopError("stopped for safety:\n  " + "\n  ".join(lines))
        code, message = 0, f"{len(done)} recordings"
        return done
    except BatterylabError as error:
        code, message = error.exit_code, str(error)
        is_safe = not isinstance(error.__cause__, SafetyStopError)
        raise
    except KeyboardInterrupt as error:
        code, message = 130, str(error) or "interrupted"
        raise
    except Exception as error:
        message = f"this is a fault of batterylab: {type(error).__name__}: {error}"
        raise
    finally:
        if guard is not None:
            guard.dismiss(is_safe=is_safe)
        _tell(study, code, message, board)
        phase = "paused" if board.is_paused and code == 0 else "ended"
        board.write({"phase": phase, "exit_code": code, "message": message}, force=True)


def _tell(study: Study, code: int, message: str, board: _Board) -> None:
    """Tell whoever the bench file names that the run is over, and how."""
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.notify import notify

    what = {0: "stop" if board.is_paused else "end", 130: "stop"}.get(code, "alarm")
    with contextlib.suppress(Exception):
        to = BenchFile.open(study.bench_path).text.notify
        notify(to, what, study.definition.name, message, exit_code=code)


#: detached runners of this process: they outlive it, nobody waits for them
_started: list["subprocess.Popen[bytes]"] = []


def start_detached(
    study: Study, operator: str, *, resumes: bool = False, accepted: tuple[str, ...] = ()
) -> int:
    """Start the runner as a process of its own session and return its number; see `run_here`.

    Raises
    ------
    EnvironmentFailedError
        If it runs already, or does not come up.
    """
    if is_running(study):
        raise EnvironmentFailedError("this study is running", hint="`batterylab status`")
    folder = run_folder(study)
    folder.mkdir(exist_ok=True)
    (folder / "status.json").unlink(missing_ok=True)
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "batterylab.bench.process", str(study.path), operator,
             *(["--resume", *accepted] if resumes else [])],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    _started.append(process)
    deadline = time.monotonic() + STARTUP_s
    while time.monotonic() < deadline:
        if (folder / "status.json").exists():
            return process.pid
        if process.poll() is not None:
            break
        time.sleep(0.05)
    text = (folder / "output").read_text(errors="replace").strip().splitlines()
    raise EnvironmentFailedError(f"the runner did not start: {text[-1] if text else 'no output'}")


def stop(study: Study) -> dict[str, Any]:
    """Ask the runner to put every channel in its safe state, and wait until it has ended.

    Raises
    ------
    EnvironmentFailedError
        If it does not end; the guard is still there.
    """
    return _ask(study, "stop")


def pause(study: Study) -> dict[str, Any]:
    """Ask the runner to pause: every channel safe, all that was recorded kept to be resumed.

    Raises
    ------
    EnvironmentFailedError
        If it does not end; the guard is still there.
    """
    return _ask(study, "pause")


def _ask(study: Study, word: str) -> dict[str, Any]:
    if not is_running(study):
        return status_of(study)
    path = run_folder(study) / "socket"
    try:
        client = socket.socket(socket.AF_UNIX)
        with client, _short(path) as short:
            client.settimeout(5)
            client.connect(short)
            client.sendall(f"{word}\n".encode())
            client.recv(100)
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((run_folder(study) / "pid").read_text()), signal.SIGTERM)
    deadline = time.monotonic() + STOP_s
    while is_running(study):
        if time.monotonic() > deadline:
            raise EnvironmentFailedError("the runner does not end", hint="switch the bench off")
        time.sleep(0.1)
    return status_of(study)


def has_work(study: Study) -> int:
    """Return how many recordings the loaded cells still need."""
    return sum(len(loaded) for loaded in open_work(study).values())


def main() -> None:
    """Entry of the detached runner: study and operator."""
    from batterylab.cli import _unexpected

    try:
        study = Study.open(Path(sys.argv[1]))
        resumes = sys.argv[3:4] == ["--resume"]
        run_here(study, sys.argv[2], resumes=resumes, accepted=tuple(sys.argv[4:]))
    except BatterylabError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the last resort: a log, never a traceback
        print(_unexpected(error), file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
