"""sipp in the matrix: a scenario, and an echo of the sound. An INFO of ours tells it when it is its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from roamphone_pytest.server import DOMAIN
from softphone.calls.call import Call
from softphone.media.dtmf import DigitMethod
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.interop.loopback import at_host
from tests.interop.matrix.cells import VOICE, Cell, Deed, Keys, Setting
from tests.interop.matrix.recordings import debian_version
from tests.interop.sipp_process import Sipp

PAUSE = '<pause milliseconds="300"/>\n'
"For us, to learn of a hold before it ends."
CONTACT = "Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>\n"


class Scenario:
    """Writes the XML of one call: ours from or to sipp."""

    def __init__(self, *, calls_us: bool) -> None:
        self._calls_us = calls_us
        self._steps: list[str] = []
        self._number = 0
        "Of sipp's latest request (CSeq)."
        self._in_dialog = False

    def text(self) -> str:
        if self._calls_us:
            self._call()
        else:
            self._answer()
        self._take("INFO", "Signal=4")
        self._ask("INFO", "application/dtmf-relay", "Signal=5\nDuration=160\n")
        for expected, answered in (("a=sendonly", "recvonly"), ("a=sendrecv", "sendrecv")):
            self._take("INVITE", expected, answered)
            self._steps.append('<recv request="ACK"/>\n')
        for direction in ("sendonly", "sendrecv"):
            self._steps.append(PAUSE)
            self._ask("INVITE", "application/sdp", self._sdp(direction))
            self._acknowledge()
        self._take("INFO", "Signal=#")
        if self._calls_us:
            self._ask("BYE")
        else:
            self._take("BYE", "BYE")
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="matrix">\n{"".join(self._steps)}'
            '<Reference variables="said"/>\n</scenario>\n'
        )

    # -- a call from sipp, and one to it

    def _call(self) -> None:
        self._ask("INVITE", "application/sdp", self._sdp("sendrecv"), expect="")
        self._steps.append('<recv response="407" auth="true"/>\n')
        self._acknowledge()
        self._ask("INVITE", "application/sdp", self._sdp("sendrecv"), "[authentication]\n", expect="")
        self._steps.append(
            '<recv response="100" optional="true"/>\n<recv response="180" optional="true"/>\n'
            '<recv response="200" rrs="true"/>\n'
        )
        self._in_dialog = True
        self._acknowledge()

    def _answer(self) -> None:
        self._steps.append(
            '<recv request="INVITE" rrs="true"><action>'
            '<ereg regexp=".*" search_in="hdr" header="From:" check_it="true" assign_to="from"/>'
            '<ereg regexp=".*" search_in="hdr" header="To:" check_it="true" assign_to="to"/>'
            "</action></recv>\n"
        )
        self._reply(self._sdp("sendrecv"), ";tag=one")
        self._steps.append('<recv request="ACK"/>\n')
        self._in_dialog = True

    # -- messages

    def _take(self, method: str, expected: str, direction: str = "") -> None:
        """A request that has this text; answered with this direction of sound."""
        self._steps.append(
            f'<recv request="{method}"><action><ereg regexp="{expected}" search_in="msg" check_it="true" '
            'assign_to="said"/></action></recv>\n'
        )
        self._reply(self._sdp(direction) if direction else "")

    def _reply(self, sdp: str, tag: str = "") -> None:
        body = f"{CONTACT}Content-Type: application/sdp\n" if sdp else ""
        record = "[last_Record-Route:]\n" if tag else ""
        self._send(
            f"SIP/2.0 200 OK\n[last_Via:]\n{record}[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n{body}"
            f"Content-Length: [len]\n\n{sdp}"
        )

    def _ask(self, method: str, kind: str = "", body: str = "", more: str = "", expect: str = "200") -> None:
        self._number += 1
        contact = CONTACT if method == "INVITE" else ""
        content = f"Content-Type: {kind}\n" if kind else ""
        self._send(f"{self._head(method)}{contact}{more}{content}Content-Length: [len]\n\n{body}", ' retrans="500"')
        if expect:
            self._steps.append(f'<recv response="100" optional="true"/>\n<recv response="{expect}"/>\n')

    def _acknowledge(self) -> None:
        self._send(f"{self._head('ACK')}Content-Length: 0\n\n")

    def _head(self, method: str) -> str:
        url, routes = ("[next_url]", "[routes]\n") if self._in_dialog else (f"sip:alice@{DOMAIN}", "")
        if self._calls_us:
            peer = "[peer_tag_param]" if self._in_dialog or method == "ACK" else ""
            ends = f"From: <sip:bob@{DOMAIN}>;tag=s[call_number]\nTo: <sip:alice@{DOMAIN}>{peer}\n"
        else:
            ends = "From:[$to];tag=one\nTo:[$from]\n"
        return (
            f"{method} {url} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
            f"{routes}{ends}Call-ID: [call_id]\n"
            f"CSeq: {self._number} {method}\nMax-Forwards: 70\n"
        )

    def _send(self, message: str, attributes: str = "") -> None:
        self._steps.append(f"<send{attributes}><![CDATA[\n{message}\n]]></send>\n")

    def _sdp(self, direction: str) -> str:
        return (
            "v=0\no=- 1 1 IN IP[media_ip_type] [media_ip]\ns=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\n"
            f"m=audio [media_port] RTP/AVP 0\na={direction}\n"
        )


class SippPhone:
    tone = VOICE
    quiet_on_hold = False
    hears_last = True

    def __init__(self, program: Sipp, setting: Setting) -> None:
        self.program, self._setting = program, setting
        self.uri = program.uri

    async def start(self) -> None:
        setting = self._setting
        server = f"{at_host(setting.cell.host)}:{setting.server_port}"
        account = ("-au", "bob", "-ap", setting.server.password("bob"))
        await self.program.start(server if setting.cell.calls_us else None, "-rtp_echo", *account)

    async def dial(self, user: str) -> None:
        await self.start()

    async def talks(self) -> None:
        pass

    async def sing(self) -> None:
        pass  # it sends back what it hears

    async def hears(self, call: Call, tone: int, third: Softphone) -> None:
        # It has: the tone came back. Now the scenario goes on to its end.
        await call.send_dtmf("#", DigitMethod.INFO)

    async def takes_digit(self, call: Call) -> None:
        await call.send_dtmf("4", DigitMethod.INFO)

    def send_digit(self) -> None:
        pass  # the scenario does, once it has ours

    async def is_held(self) -> None:
        pass

    async def hold(self) -> None:
        pass  # the scenario does, after our hold, and resumes

    def resume(self) -> None:
        pass

    def transfer(self, user: str) -> None:
        raise NotImplementedError("no scenario of the matrix does")

    def hang_up(self) -> None:
        pass  # the scenario does

    async def has_ended(self) -> None:
        await self.program.succeeded()


class SippProgram:
    name = "sipp"
    without: Mapping[Deed, str] = {
        Deed.REGISTRATION: "it is called by its address, by a phone that has not registered",
        Deed.TRANSFER: "its scenarios for that go without a server (tests/interop/test_sipp.py)",
    }

    def version(self) -> str:
        return debian_version("sip-tester")

    def limit(self, cell: Cell) -> str | None:
        if cell.transport is Transport.TLS:
            return "Debian's sipp was compiled without TLS"
        if cell.keys is not Keys.OFF:
            return "Debian's sipp was compiled without SRTP"
        if (cell.transport, cell.version, cell.calls_us) == (Transport.UDP, 4, False):
            return (
                "our hold with its credentials is so long that Kamailio sends it over TCP, where sipp does not listen"
            )
        return None

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        # Kamailio sends over TCP what is long, and sipp listens for one transport: few codecs, no timer, and
        # credentials for the proxy alone.
        return {"codecs": ("PCMU",), "register": cell.calls_us, "session_expires": 0}

    @asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[SippPhone]:
        cell = setting.cell
        file = setting.folder / "matrix.xml"
        file.write_text(Scenario(calls_us=cell.calls_us).text())
        phone = SippPhone(Sipp(setting.folder, file, cell.host, cell.transport), setting)
        if not cell.calls_us:
            await phone.start()
        try:
            yield phone
        finally:
            await phone.program.stop()
