"""Recorded results: one file for each run, with everything needed to judge and to repeat it.

* :mod:`bmo.record.schema`: what a record holds.
* :mod:`bmo.record.checks`: what makes each field valid.
* :mod:`bmo.record.origin`: where a result comes from: device, versions, commit, command.
* :mod:`bmo.record.store`: writing and reading records.
* :mod:`bmo.record.index`: which records the package knows, each with its sha256.
* :mod:`bmo.record.finding`: finding a record by its name.
* :mod:`bmo.record.weights`: trained weights beside a record.
* :mod:`bmo.record.show`: a record as a table, with its provenance in one sentence.
"""

from bmo.record.checks import COMMON, PROFILES
from bmo.record.finding import find, record_url
from bmo.record.index import require_folder, seal, sealed
from bmo.record.origin import project_address, project_version, provenance_now
from bmo.record.schema import Record, row
from bmo.record.show import provenance, table
from bmo.record.store import read, write
from bmo.record.weights import find_weights, load_weights, save_weights

__all__ = [
    "COMMON",
    "PROFILES",
    "Record",
    "find",
    "find_weights",
    "load_weights",
    "project_address",
    "project_version",
    "provenance",
    "provenance_now",
    "read",
    "record_url",
    "require_folder",
    "row",
    "save_weights",
    "seal",
    "sealed",
    "table",
    "write",
]
