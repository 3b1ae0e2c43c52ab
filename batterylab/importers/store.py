"""Bring vendors' files into an archive: read, check, refuse doubles, seal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from batterylab import archive as archives
from batterylab.cells import check_name
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.importers.build import Stated, build, sha256_of
from batterylab.importers.duplicates import Known, Twin
from batterylab.importers.registry import read_vendor_file
from batterylab.importers.vendortable import VendorTable, refuse
from batterylab.recording import Recording
from batterylab.study import Study


@dataclass(frozen=True)
class Target:
    """Where recordings go, and what is known of the cells there.

    Attributes
    ----------
    archive : Path
        The archive's folder.
    study : Study or None
        The study that owns it.
    """

    archive: Path
    study: Study | None = None

    @classmethod
    def of(cls, place: Path) -> "Target":
        """Return the target that a path names: a study, its archive, or an archive alone.

        Raises
        ------
        BatterylabError
            If the path is a file, or the study's files have mistakes.
        """
        place = Path(place)
        if place.is_file():
            raise BatterylabError(f"{place}: not a folder", hint="give a study or an archive")
        if (place / "study.yaml").is_file():
            study = Study.open(place)
            return cls(study.archive, study)
        absolute = place.resolve()
        if absolute.name == "archive" and (absolute.parent / "study.yaml").is_file():
            return cls(place, Study.open(absolute.parent))
        if place.is_dir() and any(place.iterdir()) and not _looks_like_archive(place):
            raise BatterylabError(
                f"{place}: neither a study nor an archive",
                hint="give a folder with a study.yaml, an archive, or one that is new or empty",
            )
        return cls(place)


def _looks_like_archive(place: Path) -> bool:
    return any(place.glob("*/*.h5")) or (place / "tables").is_dir()


@dataclass(frozen=True)
class Imported:
    """What became of one file.

    Attributes
    ----------
    file : Path
        As it was given.
    outcome : str
        ``stored``, ``already there`` or ``failed``.
    path : Path or None
        The recording.
    recording : Recording or None
        What was stored, with its seal.
    error : BatterylabError or None
        Why it was not.
    """

    file: Path
    outcome: str
    path: Path | None = None
    serial: str = ""
    seal: str = ""
    recording: Recording | None = None
    error: BatterylabError | None = None


@dataclass
class Importer:
    """Imports one file after the other into one archive.

    Parameters
    ----------
    target : Target
        Where to.
    stated : Stated
        What the operator states; an empty serial, supplier or lot is looked up.
    """

    target: Target
    stated: Stated
    known: Known = field(init=False)

    def __post_init__(self) -> None:
        self.known = Known(self.target.archive)
        if self.stated.serial:
            self.placed(self.stated.serial, "--cell")  # a wrong argument fails before any file

    def take(self, path: Path) -> Imported:
        """Import one file; what is wrong with it is returned, not raised.

        Raises
        ------
        EnvironmentFailedError
            If the archive cannot be written: no later file would fare better.
        """
        try:
            return self._take(path)
        except EnvironmentFailedError:
            raise
        except BatterylabError as error:
            return Imported(path, "failed", error=error)
        except (MemoryError, OSError) as error:
            what = refuse(path.name, f"cannot be read: {error or 'too large for the memory'}")
            return Imported(path, "failed", error=what)

    def all(self, paths: Iterable[Path], each: Callable[[Imported], None]) -> list[Imported]:
        """Import files in turn and report each as it is done."""
        results = []
        for path in paths:
            results.append(self.take(path))
            each(results[-1])
        return results

    def _take(self, path: Path) -> Imported:
        if not path.is_file():
            raise refuse(path.name, "there is no such file", "check the path")
        sha256 = sha256_of(path)
        twins = self.known.same_bytes(sha256)
        if twins and self.stated.serial and self._all_there(twins, self.stated.serial):
            return _already(path, twins[0])
        table = read_vendor_file(path)
        stated = self._stated_of(table, path.name)
        for twin in twins:
            if twin.serial == stated.serial:
                return _already(path, twin)
            raise _double(path.name, stated.serial, twin)
        recording = build(table, path.name, stated, sha256)
        like = self.known.same_measurement(recording)
        if like is not None:
            raise _double(path.name, stated.serial, like)
        stored = archives.write(recording, self.target.archive)
        entry = archives.entry(stored)
        self.known.add(entry)
        if self.target.study is not None:
            self.target.study.log.append(
                "recording",
                stated.operator,
                serial=entry.serial,
                seal=entry.seal,
                path=f"{stored.parent.name}/{stored.name}",
                source="import",
                file=path.name,
            )
        return Imported(
            path, "stored", stored, entry.serial, entry.seal, recording.with_seal(entry.seal)
        )

    @staticmethod
    def _all_there(twins: list[Twin], serial: str) -> bool:
        return all(twin.serial == serial for twin in twins)

    def _stated_of(self, table: VendorTable, name: str) -> Stated:
        serial = self.stated.serial or self._serial_in(table, name)
        supplier, lot = self.placed(serial, name)
        cell_type = self.target.study.cell_type if self.target.study else None
        return replace(self.stated, serial=serial, supplier=supplier, lot=lot, cell_type=cell_type)

    def _serial_in(self, table: VendorTable, name: str) -> str:
        """Return the cell's name from the file's metadata, if it can mean nothing else."""
        listed = self.target.study.cells if self.target.study else {}
        if table.serial and (table.serial_sure or table.serial in listed):
            return table.serial
        said = f" (its metadata says {table.serial!r})" if table.serial else ""
        raise refuse(
            name,
            f"which cell it is cannot be told from the file{said}",
            "name it with --cell SERIAL",
        )

    def placed(self, serial: str, where: str) -> tuple[str, str]:
        """Return supplier and lot of a serial: from the study's cells, else as stated.

        Raises
        ------
        BatterylabError
            If the serial is unknown to the study, or the study says otherwise than stated.
        """
        check_name(serial, "serial")
        study, stated = self.target.study, self.stated
        if study is None:
            for text, what in ((stated.supplier, "supplier"), (stated.lot, "lot")):
                if text:
                    check_name(text, what)
            return stated.supplier, stated.lot
        cell = study.cells.get(serial)
        if cell is None:
            raise BatterylabError(
                f"{where}: the study {study.definition.name!r} has no cell {serial!r}",
                hint=f"add it to {study.path / 'cells.csv'}, or name another with --cell",
            )
        for given, there, what in (
            (stated.supplier, cell.supplier, "supplier"),
            (stated.lot, cell.lot, "lot"),
        ):
            if given and given != there:
                raise BatterylabError(
                    f"{where}: cell {serial!r} is of {what} {there!r}, not {given!r}",
                    hint=f"leave --{what} out: cells.csv knows it",
                )
        return cell.supplier, cell.lot


def _already(path: Path, twin: Twin) -> Imported:
    return Imported(path, "already there", twin.path, twin.serial, twin.seal)


def _double(name: str, serial: str, twin: Twin) -> BatterylabError:
    """Return the refusal of a measurement that the archive holds."""
    how = "the same file" if twin.same_bytes else "the same measurement, row by row"
    whose = "this cell" if twin.serial == serial else f"cell {twin.serial!r}"
    return refuse(
        name,
        f"{how} is already in the archive for {whose}, from {twin.file}",
        "one measurement belongs to one cell once: which file is the copy?",
    )
