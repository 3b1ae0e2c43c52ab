"""How a channel is stopped without the runner: the path that the model's file names."""

import re
import socket
from dataclasses import dataclass

from batterylab.errors import EnvironmentFailedError

CONNECT_s = 2.0
_HOST = re.compile(r"TCPIP\d*::([^:]+)::", re.IGNORECASE)


@dataclass(frozen=True)
class StopPath:
    """One instrument's path to a stop.

    Attributes
    ----------
    kind : str
        ``second session``: it serves another client beside the runner. ``dead-socket port``:
        it serves one at a time, and a connection to that port ends the one there is.
        ``digital abort line``: hardware. ``none``: nothing but what it watches by itself.
    name, address : str
        Of the instrument.
    port : int
        Of a ``dead-socket port``.
    """

    kind: str
    name: str
    address: str
    port: int = 0

    @property
    def is_there(self) -> bool:
        """Whether somebody else than the runner can stop the instrument."""
        return self.kind != "none"

    def hang_up(self) -> None:
        """End whatever session the instrument serves, through its dead-socket port.

        Raises
        ------
        EnvironmentFailedError
            If nothing answers there.
        """
        match = _HOST.match(self.address)
        host = match[1] if match else ""
        try:
            with socket.create_connection((host, self.port), timeout=CONNECT_s) as line:
                line.settimeout(CONNECT_s)
                line.recv(1)  # it closes the connection when it is done
        except OSError as error:
            raise EnvironmentFailedError(
                f"{self.name}: nothing answers at its dead-socket port {host}:{self.port}: "
                f"{error.strerror or error}",
                hint="without it nobody can stop the channel if the runner hangs; "
                "correct stop_port in bench.yaml",
            ) from None
