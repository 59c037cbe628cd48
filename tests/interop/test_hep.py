"""Kamailio's sipcapture, the collector of Homer, reads what we send as HEPv3 and puts it into its table."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from roamphone_pytest.ports import free_port
from sip_test_env import kamailio
from softphone.network.hep import AGENT, HepSender
from softphone.phone import Softphone
from tests.softphone.support import account

pytestmark = pytest.mark.interop

COLUMNS = (
    "date micro_ts method correlation_id reply_reason ruri ruri_user ruri_domain from_user from_domain from_tag "
    "to_user to_domain to_tag pid_user contact_user auth_user callid callid_aleg via_1 via_1_branch cseq diversion "
    "reason content_type auth user_agent source_ip source_port destination_ip destination_port contact_ip "
    "contact_port originator_ip originator_port proto family rtp_stat type node msg custom_field1 custom_field2 "
    "custom_field3 event expires"
).split()
NUMBERS = {"date", "micro_ts", "proto", "family", "type", *(name for name in COLUMNS if name.endswith("_port"))}
CONFIGURATION = """
debug=1
log_stderror=yes
fork=no
children=1
listen=udp:[::1]:{port}
loadmodule "db_text.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", "text://{directory}")
modparam("sipcapture", "capture_on", 1)
modparam("sipcapture", "hep_capture_on", 1)
request_route {{ sip_capture(); drop; }}
onreply_route {{ sip_capture(); drop; }}
"""


def test_kamailio_captures_what_we_send(tmp_path: Path) -> None:
    table = tmp_path / "sip_capture"
    table.write_text(" ".join(f"{name}({'int' if name in NUMBERS else 'string'},null)" for name in COLUMNS) + "\n")
    (tmp_path / "version").write_text("table_name(string) table_version(int)\nsip_capture:4\n")
    tmp_path.joinpath("kamailio.cfg").write_text(CONFIGURATION.format(port=(port := free_port()), directory=tmp_path))

    async def work() -> tuple[int, int]:
        with closing(HepSender(f"[::1]:{port}")) as hep:
            async with Softphone(account("alice")) as alice, Softphone(account("bob")) as bob:
                alice.watch_messages(hep.sip)
                for _ in range(100):  # until Kamailio is there
                    await alice.message(f"sip:bob@[::1]:{bob.port}", "hello")
                    if not hep.lost:
                        break
                    hep.lost = 0
                    await asyncio.sleep(0.2)
                await alice.message(f"sip:bob@[::1]:{bob.port}", "the last one")
                assert not hep.lost
                await asyncio.sleep(0.3)
                return alice.port, bob.port

    log = tmp_path / "log"
    with log.open("wb") as errors, subprocess.Popen(
        kamailio.command(tmp_path / "kamailio.cfg"), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
        env=kamailio.environment(),
    ) as process:  # fmt: skip
        try:
            alice, bob = asyncio.run(work())
        finally:
            process.terminate()  # it writes its table on its way out
            process.wait(20)
    rows = [
        dict(zip(COLUMNS, line.replace("\\:", "\0").split(":"), strict=True))
        for line in table.read_text().splitlines()[1:]
    ]
    assert rows, log.read_text()
    [sent] = [row for row in rows if row["method"] == "MESSAGE" and "the last one" in row["msg"]]
    [reply] = [row for row in rows if row["method"] == "200" and row["callid"] == sent["callid"]]
    for row, source, target in ((sent, alice, bob), (reply, bob, alice)):
        assert row["correlation_id"] == row["callid"] != ""
        assert (row["source_ip"], row["destination_ip"]) == ("\0\0" + "1", "\0\0" + "1")
        assert (int(row["source_port"]), int(row["destination_port"])) == (source, target)
        assert (row["proto"], row["family"]) == ("1", "10")
        assert row["node"].endswith(f"\0{AGENT}")
        assert abs(int(row["date"]) - time.time()) < 60
