"""Which module reads which file: by content first, by ending where the content says nothing.

A `.zip` that holds one file is opened. To add a format: write a module with `matches` and
`read`, and name it here.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO

from batterylab.importers import (
    arbin,
    bdf,
    biologic,
    gamry,
    labview,
    maccor,
    named,
    neware,
    novonix,
    spectra,
)
from batterylab.importers.vendortable import VendorTable, refuse

READERS: tuple[ModuleType, ...] = (
    neware,
    arbin,
    maccor,
    biologic,
    novonix,
    bdf,
    named,
    labview,
    gamry,
    spectra,
)
FORMATS = (
    "Neware .nda .ndax .csv, Arbin .res .csv, Maccor text, BioLogic .mpr .mpt, Novonix .csv, "
    "BDF .csv .parquet, Landt, Bitrode, BaSyTec .csv, LabVIEW .lvm, Gamry .DTA, "
    "impedance spectra .csv"
)
HEAD = 65536
#: what a zip may unpack to
LARGEST_MEMBER = 4 * 1024**3


def read_vendor_file(path: Path) -> VendorTable:
    """Read a cycler's file with the module that knows it.

    Parameters
    ----------
    path : Path
        The file, or a `.zip` that holds it alone.

    Returns
    -------
    VendorTable
        What the file says, unchecked.

    Raises
    ------
    BatterylabError
        If the file is missing, empty, of no known format, or cannot be read.
    """
    if not path.is_file():
        raise refuse(path.name, "there is no such file", "check the path")
    if path.stat().st_size == 0:
        raise refuse(path.name, "the file is empty", "fetch it again from the cycler")
    with _unpacked(path) as member:
        table: VendorTable = reader_of(member).read(member)
        return table


def reader_of(path: Path) -> ModuleType:
    """Return the module that reads a file.

    Raises
    ------
    BatterylabError
        If none knows it.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise refuse(path.name, f"cannot be read: {error.strerror}") from None
    for module in READERS:
        if module.matches(path, head):
            return module
    raise refuse(path.name, "of no format that batterylab reads", f"known: {FORMATS}")


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Return the file, or the only member of a `.zip`."""
    if path.suffix.lower() != ".zip":
        yield path
        return
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) != 1:
                raise refuse(path.name, f"holds {len(members)} files", "unpack it first")
            if members[0].file_size > LARGEST_MEMBER:
                raise refuse(path.name, f"unpacks to {members[0].file_size} bytes: refused")
            target = Path(folder, f"member{Path(members[0].filename).suffix.lower()}")
            with archive.open(members[0]) as source, target.open("wb") as sink:
                _copy(source, sink, path.name)
            yield target
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise refuse(path.name, f"not a zip file, or damaged: {error}", "fetch it again") from None


def _copy(source: IO[bytes], sink: IO[bytes], name: str) -> None:
    """Copy a member and stop at the limit, whatever its header says."""
    written = 0
    while block := source.read(1 << 20):
        written += len(block)
        if written > LARGEST_MEMBER:
            raise refuse(name, "unpacks to more than its header says: refused")
        sink.write(block)
