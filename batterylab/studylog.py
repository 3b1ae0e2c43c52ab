"""The study's log: append-only, one JSON object a line, each chained to the one before.

What happened to a study is written here and nowhere else: which cell went to which channel,
which recordings came of it, which of them somebody declared invalid, and why. State, such as
which channels are occupied, is replayed from it.
"""

import getpass
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batterylab.errors import BatterylabError, EnvironmentFailedError, NotMetError

SCHEMA = "batterylab.log/1"
STATES = ("valid", "valid with remark", "invalid", "superseded")
REASONS = (
    "aborted", "out of temperature", "wrong cell", "wrong protocol", "instrument fault",
    "operator error", "repeated", "other",
)  # fmt: skip
FIRST = "0" * 64


def operator_name(given: str | None = None) -> str:
    """Return who acts: the name given, `BATTERYLAB_OPERATOR`, or the login name."""
    name = given or os.environ.get("BATTERYLAB_OPERATOR")
    if name:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def utc_text(unix_s: float | None = None) -> str:
    """Return a time as ISO 8601 in UTC, to the second; now if none is given."""
    moment = datetime.now(UTC) if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
    return moment.replace(microsecond=0).isoformat()


class StudyLog:
    """The log of one study.

    Parameters
    ----------
    path : Path
        The file; made with the first entry.
    now : callable, optional
        Returns the time as unix seconds; the wall clock if not given. A simulated bench
        gives its own, so that the same seed makes the same log.
    """

    def __init__(self, path: Path, now: Callable[[], float] | None = None) -> None:
        self.path = Path(path)
        self.now = now

    def append(self, kind: str, operator: str, **data: Any) -> dict[str, Any]:
        """Add an entry and flush it to the disk.

        Parameters
        ----------
        kind : str
            ``load``, ``unload``, ``allot``, ``run``, ``recording``, ``state`` and so on.
        operator : str
            Who did it.
        **data
            JSON-able values.

        Returns
        -------
        dict
            The entry as written.

        Raises
        ------
        NotMetError
            If the log's chain is broken: nothing is added to a log that was tampered with.
        EnvironmentFailedError
            If the disk refuses.
        """
        with self._locked() as stream:
            entries = _parse(stream.read(), self.path)
            entry: dict[str, Any] = {
                "schema": SCHEMA,
                "time_utc": utc_text(self.now() if self.now else None),
                "kind": kind,
                "operator": operator,
                "data": data,
                "previous": entries[-1]["hash"] if entries else FIRST,
            }
            entry["hash"] = _hash_of(entry)
            try:
                stream.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            except OSError as error:
                raise EnvironmentFailedError(f"{self.path}: cannot be written: {error}") from None
        return entry

    def _locked(self) -> Any:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stream = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise EnvironmentFailedError(f"{self.path}: cannot be opened: {error}") from None
        if os.name == "posix":
            import fcntl  # advisory lock: two commands may append at the same moment

            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        return stream

    def entries(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the entries in order, all or those of one kind.

        Raises
        ------
        NotMetError
            If a line was changed, removed or inserted.
        """
        if not self.path.exists():
            return []
        entries = _parse(self.path.read_text(encoding="utf-8"), self.path)
        return [entry for entry in entries if kind is None or entry["kind"] == kind]

    def verify(self) -> int:
        """Check the whole chain and return the number of entries; see `entries`."""
        return len(self.entries())

    def occupied(self) -> dict[str, str]:
        """Return which serial sits in which channel, replayed from the log."""
        channels: dict[str, str] = {}
        for entry in self.entries():
            if entry["kind"] == "load":
                channels[entry["data"]["channel"]] = entry["data"]["serial"]
            elif entry["kind"] == "unload":
                channels.pop(entry["data"]["channel"], None)
        return channels

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the last state entry of each recording, by seal: state, reason, operator."""
        return {
            entry["data"]["seal"]: {**entry["data"], "operator": entry["operator"],
                                    "time_utc": entry["time_utc"]}
            for entry in self.entries("state")
        }  # fmt: skip

    def set_state(self, seal: str, state: str, reason: str, operator: str) -> None:
        """Declare a recording valid, valid with remark, invalid or superseded.

        Raises
        ------
        BatterylabError
            If the state or the reason is not of the list.
        """
        if state not in STATES:
            raise BatterylabError(f"unknown state {state!r}", hint=f"one of {', '.join(STATES)}")
        if state in ("invalid", "superseded") and reason.partition(":")[0] not in REASONS:
            raise BatterylabError(
                f"unknown reason {reason!r}",
                hint=f"one of {', '.join(REASONS)}, with a remark after a colon",
            )
        self.append("state", operator, seal=seal, state=state, reason=reason)


def _hash_of(entry: dict[str, Any]) -> str:
    content = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(text: str, path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    previous = FIRST
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            holds = entry["previous"] == previous and entry["hash"] == _hash_of(entry)
        except (ValueError, KeyError, TypeError):
            holds = False
        if not holds:
            raise NotMetError(
                f"{path.name}:{number}: the log's chain is broken here",
                hint="the file was edited or cut short; restore it from the backup",
            )
        previous = entry["hash"]
        entries.append(entry)
    return entries
