"""Sealed recordings: one HDF5 file a recording, an archive is a folder of them."""

from batterylab.archive.read import ArchiveEntry, entry, find, read, verify
from batterylab.archive.seal import seal_of
from batterylab.archive.write import write

__all__ = ["ArchiveEntry", "entry", "find", "read", "seal_of", "verify", "write"]
