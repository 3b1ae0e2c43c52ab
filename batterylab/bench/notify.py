"""Tell somebody that a run has ended, was stopped, or needs a hand: a command or a webhook.

Whoever is told runs in a process of its own that nobody waits for. It gets one JSON object; that it
fails, hangs or does not exist changes nothing for the run.
"""

import contextlib
import json
import subprocess
import sys
import time
from typing import Any

from batterylab.bench.benchfile import Notify

#: a webhook that does not answer is given up after this
ANSWER_s = 10.0
#: a command that does not end is ended after this
COMMAND_s = 60.0
_running: list["subprocess.Popen[bytes]"] = []


def notify(to: Notify | None, what: str, study: str, message: str, **more: Any) -> bool:
    """Tell, if the bench file asks for it; never raises and never waits.

    Parameters
    ----------
    to : Notify or None
        From the bench file.
    what : str
        ``end``, ``stop`` or ``alarm``.
    study, message : str
        Whose run, and what happened.

    Returns
    -------
    bool
        Whether a process was started.
    """
    if to is None or what not in to.on:
        return False
    text = json.dumps({"event": what, "study": study, "message": message, **more}, default=str)
    command = [sys.executable, "-m", "batterylab.bench.notify", json.dumps(to.command), to.webhook]
    with contextlib.suppress(Exception):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(text.encode())  # shorter than a pipe holds: does not block
        process.stdin.close()
        _running[:] = [each for each in _running if each.poll() is None] + [process]
        return True
    return False


def _tell_command(command: list[str], text: bytes) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, input=text, timeout=COMMAND_s, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def _tell_webhook(address: str, text: bytes) -> None:
    from urllib.request import Request, urlopen

    request = Request(address, text, {"Content-Type": "application/json"})  # noqa: S310
    for attempt in range(3):
        with contextlib.suppress(OSError, ValueError), urlopen(request, timeout=ANSWER_s):  # noqa: S310
            return
        time.sleep(attempt + 1.0)


def main() -> None:
    """Entry of the process: command as JSON, webhook; the object on standard input."""
    command, address = json.loads(sys.argv[1]), sys.argv[2]
    text = sys.stdin.buffer.read()
    if command:
        _tell_command(command, text)
    if address:
        _tell_webhook(address, text)


if __name__ == "__main__":
    main()
