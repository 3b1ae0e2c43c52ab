"""The runner's heartbeat: it says that the main loop is alive, and not merely the process.

A thread beats four times a second, whatever the main loop waits for. It goes on only as long as
the main loop checks in, or has said how long the next thing may take: a reply from an instrument,
a write to the disk. So a loop that hangs falls silent, and one that waits does not.
"""

import threading
import time
from collections.abc import Callable

from batterylab.errors import EnvironmentFailedError

EVERY_s = 0.25
#: the main loop checks in at least so often, unless it said otherwise
PATIENCE_s = 2.0
LOST = "the guard is gone"


class Pulse:
    """Beats while the main loop is alive.

    Parameters
    ----------
    say : callable
        Sends one word to the guard; raises `EnvironmentFailedError` if it is gone.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._main = threading.get_ident()
        self._until_s = 0.0
        self._rests = True
        self._is_lost = False
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self.check_in()
        self._thread.start()

    def check_in(self) -> None:
        """Say that the main loop is well.

        Raises
        ------
        EnvironmentFailedError
            If the guard is gone: a run without a guard does not go on.
        """
        if self._is_lost:
            raise EnvironmentFailedError(LOST)
        now_s = time.monotonic()
        self._until_s = max(self._until_s, now_s + PATIENCE_s)
        if self._rests:
            with self._turn:
                self._rests = False
                self._say("beat")

    def allow(self, seconds: float) -> None:
        """Say that the next thing may take so long; only the main loop's word counts."""
        if threading.get_ident() == self._main:
            self._until_s = time.monotonic() + seconds + PATIENCE_s

    def rest(self) -> None:
        """Say that no current flows: until the next check-in, silence is no alarm."""
        with self._turn:
            self._rests = True
            self._say("rest")

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(EVERY_s):
            with self._turn:
                if self._rests or time.monotonic() > self._until_s:
                    continue
                try:
                    self._say("beat")
                except EnvironmentFailedError:
                    self._is_lost = True
                    return
