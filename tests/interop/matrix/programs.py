"""The foreign programs of the matrix, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.interop.matrix.baresip import BaresipProgram
from tests.interop.matrix.cells import Program
from tests.interop.matrix.linphone import LinphoneProgram
from tests.interop.matrix.pjsua import PjsuaProgram
from tests.interop.matrix.sipp import SippProgram

_ALL: tuple[Program, ...] = (PjsuaProgram(), BaresipProgram(), LinphoneProgram(), SippProgram())
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _ALL}
