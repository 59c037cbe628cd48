"""The process that PJSUA2 lives in: the only module that imports pjsua2.

    python -m softphone.pjsua.child CONTROL SOUND

Both arguments are descriptors of sockets. ``CONTROL`` (stream) has JSON objects, one a line: orders with a number as
``id``, answers with the same, and events. ``SOUND`` (datagrams) has 20 ms of a call each: two bytes with our number of
the call, then samples of 16 bits, `RATE` a second. Calls have the numbers that the other process gives them; those that
come in have negative ones, given here. The process ends when ``CONTROL`` does.

All of the library is used in one thread; only sound is asked for in the thread of its clock.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import threading
from typing import Any

import numpy as np
import pjsua2 as pj

from softphone.devices.elastic import Elastic
from softphone.media.codecs import Samples
from softphone.pjsua.wire import FRAME, HEADER, MILLISECONDS, RATE

G722_LEVEL = 2.0
"How much louder the library takes G.722 to be than everybody else does (FFmpeg, spandsp)."
TURN = 10
"Milliseconds that the library may wait for events."
_SUITE = re.compile(r"SRTP status: Active Crypto-suite: (\w+)")
_SIP_URI = re.compile(r"<(sips?:[^>]*)>")


class CallPort(pj.AudioMediaPort):  # type: ignore[misc]
    """One call's end of the conference bridge."""

    def __init__(self, number: int, sound: socket.socket) -> None:
        super().__init__()
        self.number = number
        self._spoken = Elastic(RATE)
        self._lock = threading.Lock()
        self._sound = sound
        form = pj.MediaFormatAudio()
        form.type = pj.PJMEDIA_TYPE_AUDIO
        form.clockRate, form.channelCount, form.bitsPerSample = RATE, 1, 16
        form.frameTimeUsec = MILLISECONDS * 1000
        self.createPort(f"call {number}", form)

    def speak(self, samples: Samples) -> None:
        """In the thread of everything else."""
        with self._lock:
            self._spoken.write(samples)

    def onFrameRequested(self, frame: pj.MediaFrame) -> None:
        with self._lock:
            samples = self._spoken.read(FRAME)
        frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO
        frame.buf = pj.ByteVector(samples.tobytes())
        frame.size = 2 * FRAME

    def onFrameReceived(self, frame: pj.MediaFrame) -> None:
        try:
            self._sound.send(HEADER.pack(self.number) + bytes(frame.buf))
        except OSError:
            pass  # nobody fetches it: late sound is no use


class ChildCall(pj.Call):  # type: ignore[misc]
    """One call."""

    def __init__(self, engine: Engine, number: int, ident: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(engine.account, ident)
        self.engine = engine
        self.number = number
        self.port: CallPort | None = None

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        self.engine.tell(
            "state", call=self.number, state=info.stateText, status=info.lastStatusCode, reason=info.lastReason,
            remote=info.remoteUri, call_id=info.callIdString,
        )  # fmt: skip
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.engine.over.append(self)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()  # its parts live no longer than the whole
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            if media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD):
                audio = self.getAudioMedia(index)
                if self.port is None:
                    self.port = CallPort(self.number, self.engine.sound)
                loud = self.getStreamInfo(index).codecName == "G722"
                audio.adjustRxLevel(G722_LEVEL if loud else 1.0)  # of what it gets from us
                audio.adjustTxLevel(1 / G722_LEVEL if loud else 1.0)
                self.port.startTransmit(audio)
                audio.startTransmit(self.port)
            stream = self.getStreamInfo(index) if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE else None
            self.engine.tell(
                "media", call=self.number, held=media.status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD,
                on_hold=media.status == pj.PJSUA_CALL_MEDIA_LOCAL_HOLD,
                codec="" if stream is None else stream.codecName, flows=self.port is not None,
                suite=self.engine.suite(self),
            )  # fmt: skip
            return

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        self.engine.tell("digit", call=self.number, digit=prm.digit, milliseconds=prm.duration)

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        prm.statusCode = pj.PJSIP_SC_DECLINE

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        self.engine.tell(
            "transfer", call=self.number, status=prm.statusCode, reason=prm.reason, final=bool(prm.finalNotify)
        )


class ChildAccount(pj.Account):  # type: ignore[misc]
    """The account."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.engine.tell("registration", status=prm.code, reason=prm.reason, expires=prm.expiration)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.engine.incoming(prm.callId)

    def onInstantMessage(self, prm: pj.OnInstantMessageParam) -> None:
        self.engine.tell("message", remote=_uri(prm.fromUri), content_type=prm.contentType, body=prm.msgBody)


class Engine:
    """The library, its account and its calls."""

    def __init__(self, control: socket.socket, sound: socket.socket) -> None:
        self.control, self.sound = control, sound
        self.endpoint = pj.Endpoint()
        self.account: ChildAccount | None = None
        self.calls: dict[int, ChildCall] = {}
        self.over: list[ChildCall] = []
        "They may be forgotten only outside of their own callbacks."
        self._incoming = 0
        self._orders = b""

    def tell(self, event: str, **values: object) -> None:
        self._write({"event": event, **values})

    def run(self) -> None:
        """Until the other process is gone."""
        while self.account is None:  # the first order makes it
            select.select([self.control], [], [])
            if not self._read_orders():
                return
        while True:
            self.endpoint.libHandleEvents(TURN)
            for call in self.over:
                self.calls.pop(call.number, None)
            self.over.clear()
            sys.last_traceback = None  # it would keep calls alive
            while select.select([self.control, self.sound], [], [], 0)[0]:
                self._read_sound()
                if not self._read_orders():
                    return

    def _read_sound(self) -> None:
        while True:
            try:
                data = self.sound.recv(1 << 12)
            except BlockingIOError:
                return
            except OSError:
                return
            if not data:
                return
            call = self.calls.get(HEADER.unpack_from(data)[0])
            if call is not None and call.port is not None:
                call.port.speak(np.frombuffer(data, np.int16, offset=HEADER.size))

    def _read_orders(self) -> bool:
        """False: the other process is gone."""
        try:
            data = self.control.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, order: dict[str, Any]) -> None:
        number, what = order.pop("id"), order.pop("op")
        try:
            result = getattr(self, f"do_{what}")(**order)
        except pj.Error as exc:
            self._write({"id": number, "error": exc.reason or exc.title, "status": exc.status})
        except KeyError:
            self._write({"id": number, "error": "the call has ended", "status": 0})
        else:
            self._write({"id": number, "result": result})

    def _write(self, message: dict[str, object]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:  # the other process reads always, or is gone
            try:
                data = data[self.control.send(data) :]
            except BlockingIOError:
                select.select([], [self.control], [], 1)
            except OSError:
                return

    def suite(self, call: ChildCall) -> str:
        """Of SRTP; empty: it is not in use."""
        found = _SUITE.search(call.dump(True, " "))
        return "" if found is None else found[1]

    def incoming(self, ident: int) -> None:
        self._incoming -= 1
        call = ChildCall(self, self._incoming, ident)
        self.calls[call.number] = call
        info = call.getInfo()
        self.tell("incoming", call=call.number, remote=info.remoteUri, call_id=info.callIdString)

    # -- orders -------------------------------------------------------------------------------------------------------

    def do_start(self, account: dict[str, Any]) -> dict[str, object]:
        endpoint, local = self.endpoint, account["local_host"] or ""
        endpoint.libCreate()
        settings = pj.EpConfig()
        settings.logConfig.level = settings.logConfig.consoleLevel = 0
        settings.uaConfig.threadCnt = 0
        settings.uaConfig.mainThreadOnly = True
        settings.uaConfig.userAgent = account["user_agent"]
        settings.medConfig.clockRate = settings.medConfig.sndClockRate = RATE
        settings.medConfig.audioFramePtime = MILLISECONDS
        settings.medConfig.noVad = not account["dtx"]
        settings.medConfig.ecTailLen = 0
        endpoint.libInit(settings)
        transport = pj.TransportConfig()
        transport.boundAddress = local
        transport.port = account["local_port"]
        number = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        found = endpoint.transportGetInfo(number).localName
        transport.port = int(found.rpartition(":")[2])
        endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP, transport)
        endpoint.audDevManager().setNullDev()
        endpoint.libStart()
        names: list[str] = account["codecs"]
        for codec in endpoint.codecEnum2():
            name = codec.codecId.partition("/")[0]
            clear = codec.codecId.startswith("L16/16000/1") if name == "L16" else True
            priority = 250 - names.index(name) if name in names and clear else 0
            endpoint.codecSetPriority(codec.codecId, priority)
        self._start_account(account, local)
        return {"host": found.rpartition(":")[0], "port": transport.port}

    def _start_account(self, account: dict[str, Any], local: str) -> None:
        mine = pj.AccountConfig()
        mine.idUri = account["identity"]
        if account["register"]:
            mine.regConfig.registrarUri = account["registrar"]
            mine.regConfig.timeoutSec = account["expires"]
        mine.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", account["auth_user"], 0, account["password"]))
        for proxy in account["proxies"]:
            mine.sipConfig.proxies.append(proxy)
        mine.callConfig.timerUse = pj.PJSUA_SIP_TIMER_OPTIONAL
        mine.mediaConfig.srtpUse = {
            "off": pj.PJMEDIA_SRTP_DISABLED, "optional": pj.PJMEDIA_SRTP_OPTIONAL,
            "mandatory": pj.PJMEDIA_SRTP_MANDATORY,
        }[account["srtp"]]  # fmt: skip
        mine.mediaConfig.srtpSecureSignaling = 0
        mine.mediaConfig.transportConfig.boundAddress = local
        self.account = ChildAccount(self)
        self.account.create(mine)

    def do_dial(self, call: int, target: str) -> None:
        made = ChildCall(self, call)
        self.calls[call] = made
        try:
            made.makeCall(target, pj.CallOpParam(True))
        except pj.Error:
            self.calls.pop(call, None)
            raise

    def do_answer(self, call: int, status: int, reason: str = "") -> None:
        order = pj.CallOpParam()
        order.statusCode, order.reason = status, reason
        self.calls[call].answer(order)

    def do_hangup(self, call: int) -> None:
        self.calls[call].hangup(pj.CallOpParam())

    def do_hold(self, call: int) -> None:
        self.calls[call].setHold(pj.CallOpParam())

    def do_resume(self, call: int) -> None:
        order = pj.CallOpParam(True)
        order.opt.flag = pj.PJSUA_CALL_UNHOLD
        self.calls[call].reinvite(order)

    def do_digits(self, call: int, digits: str) -> None:
        self.calls[call].dialDtmf(digits)

    def do_transfer(self, call: int, target: str) -> None:
        self.calls[call].xfer(target, pj.CallOpParam(True))

    def do_transfer_to(self, call: int, other: int) -> None:
        self.calls[call].xferReplaces(self.calls[other], pj.CallOpParam(True))

    def do_statistics(self, call: int) -> dict[str, object] | None:
        child = self.calls[call]
        if child.port is None:
            return None
        whole = child.getStreamStat(0)  # what is inside lives as long as this
        sent, received = whole.rtcp.txStat, whole.rtcp.rxStat
        return {
            "sent": sent.pkt, "received": received.pkt, "lost": received.loss,
            "jitter": received.jitterUsec.mean / 1e6, "round_trip": whole.rtcp.rttUsec.mean / 1e6,
        }  # fmt: skip

    def do_unregister(self) -> None:
        if self.account is not None:
            self.account.setRegistration(False)


def _uri(text: str) -> str:
    found = _SIP_URI.search(text)
    return text if found is None else found[1]


def main() -> None:
    control, sound = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    for sock in (control, sound):
        sock.setblocking(False)
    Engine(control, sound).run()
    os._exit(0)  # the library's own end takes seconds, and aborts where calls are alive


if __name__ == "__main__":
    main()
