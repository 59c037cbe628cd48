"""Some cells of the matrix: each program as caller and callee, each transport, all keys, both versions of IP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roamphone_pytest.server import SipServer
from softphone.sip.transport import Transport
from tests.interop.matrix.cells import Cell, Keys
from tests.interop.matrix.judge import judge
from tests.interop.matrix.programs import PROGRAMS

UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS
CELLS = (
    Cell("pjsua2", UDP, Keys.OFF, 4, calls_us=False),
    Cell("pjsua2", TLS, Keys.SDES, 4, calls_us=True),
    Cell("baresip", UDP, Keys.OFF, 6, calls_us=False),
    Cell("baresip", TCP, Keys.SDES, 4, calls_us=False),
    Cell("baresip", TLS, Keys.DTLS, 6, calls_us=True),
    Cell("linphone", UDP, Keys.SDES, 6, calls_us=True),
    Cell("linphone", TCP, Keys.DTLS, 6, calls_us=True),
    Cell("linphone", TLS, Keys.DTLS, 6, calls_us=False),
    Cell("sipp", UDP, Keys.OFF, 6, calls_us=False),
    Cell("sipp", TCP, Keys.OFF, 4, calls_us=True),
)


@pytest.mark.interop
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_calls(sip_server: SipServer, tmp_path: Path, cell: Cell) -> None:
    outcome = asyncio.run(judge(PROGRAMS[cell.program], cell, sip_server, tmp_path))
    assert outcome.passed, str(outcome)
