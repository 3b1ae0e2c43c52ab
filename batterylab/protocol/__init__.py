"""Protocols: what shall be done to a cell, as files that people write.

`load` finds and checks a file, `Protocol.resolve` turns it into plain numbers for a cell type,
and `Progress` says step by step what a bench shall do.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batterylab.cells import CellType
from batterylab.errors import BatterylabError, ProblemsError
from batterylab.protocol.expand import expand
from batterylab.protocol.form import End, If, Mark, Repeat, Resolved, Step, Until
from batterylab.protocol.language import SCHEMA, ProtocolFile
from batterylab.protocol.progress import Outcome, Progress, Segment, all_segments
from batterylab.protocol.resolve import Resolver
from batterylab.yamlfile import YamlDocument, load_yaml, validate

__all__ = [
    "SCHEMA", "End", "If", "Mark", "Outcome", "Progress", "Protocol", "Repeat", "Resolved",
    "Segment", "Step", "Until", "all_segments", "folders", "load", "names", "read",
]  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """A protocol file, read and checked.

    Attributes
    ----------
    path : Path
        The file.
    file : ProtocolFile
        What it says.
    """

    path: Path
    file: ProtocolFile
    document: YamlDocument

    @property
    def name(self) -> str:
        """The protocol's name."""
        return self.file.name

    def resolve(self, cell_type: CellType) -> Resolved:
        """Return the protocol in plain numbers.

        Raises
        ------
        ProblemsError
            With every step that the cell type does not allow.
        """
        return Resolver(self.document, self.file, cell_type).resolve()


def folders(search: Sequence[Path] = ()) -> list[Path]:
    """Return where protocols are looked for: the given folders, `BATTERYLAB_PROTOCOLS`, ours."""
    package = Path(__file__).parents[1]
    shipped = package / "protocols"
    if not shipped.is_dir() and (package.parent / "pyproject.toml").is_file():
        shipped = package.parent / "protocols"
    own = os.environ.get("BATTERYLAB_PROTOCOLS")
    candidates = [*search, *([Path(own)] if own else []), shipped]
    return [folder for folder in candidates if folder.is_dir()]


def names(search: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the protocols that can be found, by name; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in folders(search):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load(name: str | Path, search: Sequence[Path] = ()) -> Protocol:
    """Read a protocol by its name, or from a file.

    Parameters
    ----------
    name : str or Path
        Such as ``capacity_resistance``, or the path of a ``.yaml`` file.
    search : sequence of Path
        Folders to look in first.

    Raises
    ------
    BatterylabError
        If there is no such protocol.
    ProblemsError
        With every mistake in the file.
    """
    text = str(name)
    path = Path(name) if text.endswith((".yaml", ".yml")) else _find(text, search)
    return read(load_yaml(path), search)


def _find(name: str, search: Sequence[Path]) -> Path:
    known = names(search)
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise BatterylabError(f"there is no protocol {name!r}", hint=hint)
    return known[name]


def read(document: YamlDocument, search: Sequence[Path] = ()) -> Protocol:
    """Check a protocol that has been read; see `load`.

    Parameters
    ----------
    document : YamlDocument
        The file.
    search : sequence of Path
        Folders in which protocols that it calls are looked for first.
    """
    expanded, problems = expand(document, lambda name: load_yaml(_find(name, search)))
    try:
        file = validate(expanded, ProtocolFile)
    except ProblemsError as error:
        raise ProblemsError(list(dict.fromkeys([*problems, *error.problems]))) from None
    if problems:
        raise ProblemsError(problems)
    return Protocol(document.path, file, expanded)
