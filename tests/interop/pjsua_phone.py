"""An IPv4-only phone: PJSUA2, from a wheel that was compiled without IPv6. Registers, calls, talks, hangs up.

    python pjsua_phone.py ORDERS

``ORDERS`` is JSON: ``user``, ``password``, ``domain``, ``target``, ``play`` and ``record`` (WAV files),
``seconds``, ``local`` (an IPv4 address), ``transport`` (``udp``, ``tcp`` or ``tls``) and ``log`` (a file); without
``target`` it waits for a call. ``port`` (its own), ``proxy`` (a SIP URI), ``srtp`` (false: none) and ``ca`` (a file,
for TLS) may be there. Each line that it writes to standard output is JSON: what has happened. It ends after the call;
with ``steered`` in place of ``seconds`` it does what lines of its standard input say (`steer`), and ends with that.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

import pjsua2 as pj


def tell(what: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"event": what, **values}) + "\n")
    sys.stdout.flush()


class PhoneCall(pj.Call):  # type: ignore[misc]
    """Plays and records as soon as there is audio."""

    def __init__(self, account: PhoneAccount, orders: dict[str, Any], number: int = -1) -> None:
        super().__init__(account, number)
        account.calls.append(self)
        self.account = account
        self.orders = orders
        self.state = "new"
        self.player: pj.AudioMediaPlayer | None = None
        self.recorder: pj.AudioMediaRecorder | None = None

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        self.state = info.stateText
        tell("call", state=info.stateText, status=info.lastStatusCode, remote=info.remoteUri)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()
        for number, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(number)
                if self.player is None:
                    self.player, self.recorder = pj.AudioMediaPlayer(), pj.AudioMediaRecorder()
                    self.player.createPlayer(self.orders["play"], pj.PJMEDIA_FILE_NO_LOOP)
                    self.recorder.createRecorder(self.orders["record"])
                self.player.startTransmit(audio)
                audio.startTransmit(self.recorder)
                stream = self.getStreamInfo(number)
                tell("media", codec=stream.codecName, remote=stream.remoteRtpAddress)

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        tell("digit", digit=prm.digit)

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        assert self.account.call is self
        prm.newCall = self.account.call = PhoneCall(self.account, self.orders)

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        if prm.finalNotify and prm.statusCode == 200:
            self.hangup(pj.CallOpParam())

    def statistics(self) -> None:
        statistics = self.getStreamStat(0)  # what is inside lives as long as this
        stream = statistics.rtcp
        tell("statistics", sent=stream.txStat.pkt, received=stream.rxStat.pkt, lost=stream.rxStat.loss)


class PhoneAccount(pj.Account):  # type: ignore[misc]
    def __init__(self, orders: dict[str, Any]) -> None:
        super().__init__()
        self.orders = orders
        self.call: PhoneCall | None = None
        self.calls: list[PhoneCall] = []
        "All that there were: the library hangs up what nobody refers to any more."
        self.registered: int | None = None

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.registered = prm.code
        tell("registration", status=prm.code, reason=prm.reason)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.call = PhoneCall(self, self.orders, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        self.call.answer(answer)


def steer(endpoint: pj.Endpoint, account: PhoneAccount, suffix: str) -> None:
    """Lines: ``dial URI``, ``hold``, ``resume``, ``digit D``, ``transfer URI``, ``hangup``; until their end."""
    os.set_blocking(sys.stdin.fileno(), False)
    waiting: list[str] = []
    while True:
        endpoint.libHandleEvents(10)
        if select.select([sys.stdin], [], [], 0)[0]:
            text = sys.stdin.read()
            if not text:
                return
            waiting += text.splitlines()
        while waiting:
            try:
                obey(waiting[0], account, suffix)
            except pj.Error:
                break  # a change of the call is still under way: again in a moment
            waiting.pop(0)


def obey(line: str, account: PhoneAccount, suffix: str) -> None:
    command, _, argument = line.partition(" ")
    call = account.call
    if command == "dial":
        account.call = PhoneCall(account, account.orders)
        account.call.makeCall(argument + suffix, pj.CallOpParam(True))
    elif call is None:
        raise ValueError(f"{line}: there is no call")
    elif command == "hold":
        call.setHold(pj.CallOpParam())
    elif command == "resume":
        resume = pj.CallOpParam(True)
        resume.opt.flag = pj.PJSUA_CALL_UNHOLD
        call.reinvite(resume)
    elif command == "digit":
        call.dialDtmf(argument)
    elif command == "transfer":
        call.xfer(argument, pj.CallOpParam())
    elif command == "hangup":
        call.hangup(pj.CallOpParam())


def main() -> None:
    orders = json.loads(sys.argv[1])
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    settings = pj.EpConfig()
    settings.logConfig.level = 5
    settings.logConfig.consoleLevel = 0
    settings.logConfig.filename = orders["log"]
    settings.uaConfig.threadCnt = 0
    settings.uaConfig.mainThreadOnly = True
    endpoint.libInit(settings)
    transport = pj.TransportConfig()
    transport.boundAddress = orders["local"]
    transport.port = orders.get("port", 5060)
    if "ca" in orders:
        transport.tlsConfig.CaListFile = orders["ca"]
        transport.tlsConfig.verifyServer = True
        transport.tlsConfig.method = pj.PJSIP_TLSV1_2_METHOD
    secure = (pj.PJSIP_TRANSPORT_TLS,) if orders["transport"] == "tls" else ()
    for kind in secure or (pj.PJSIP_TRANSPORT_UDP, pj.PJSIP_TRANSPORT_TCP):
        endpoint.transportCreate(kind, transport)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU") else 0)

    account_settings = pj.AccountConfig()
    suffix = "" if orders["transport"] == "udp" else f";transport={orders['transport']}"
    account_settings.idUri = f"sip:{orders['user']}@{orders['domain']}"
    account_settings.regConfig.registrarUri = f"sip:{orders['domain']}{suffix}"
    account_settings.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", orders["user"], 0, orders["password"]))
    if "proxy" in orders:
        account_settings.sipConfig.proxies.append(orders["proxy"])
    srtp = pj.PJMEDIA_SRTP_MANDATORY if orders.get("srtp", True) else pj.PJMEDIA_SRTP_DISABLED
    account_settings.mediaConfig.srtpUse = srtp
    account_settings.mediaConfig.srtpSecureSignaling = 0
    account_settings.mediaConfig.transportConfig.boundAddress = orders["local"]
    account = PhoneAccount(orders)
    account.create(account_settings)

    def until(reached: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                tell("failed", why=f"no {what} within {seconds} s")
                os._exit(1)
            endpoint.libHandleEvents(10)

    until(lambda: account.registered is not None, 15, "registration")
    if account.registered != 200:
        os._exit(1)
    if "steered" in orders:
        steer(endpoint, account, suffix)
        account.registered = None
        account.setRegistration(False)
        until(lambda: account.registered is not None, 10, "end of the registration")
        os._exit(0)
    if "target" in orders:
        account.call = PhoneCall(account, orders)
        account.call.makeCall(orders["target"] + suffix, pj.CallOpParam(True))
    until(lambda: account.call is not None, 60, "call")
    call = account.call
    assert call is not None
    until(lambda: call.player is not None, 15, "media")
    end = time.monotonic() + orders["seconds"]
    until(lambda: call.state == "DISCONNECTED" or time.monotonic() > end, orders["seconds"] + 5, "end")
    if call.state != "DISCONNECTED":
        call.statistics()
        call.recorder = None
        call.hangup(pj.CallOpParam())
    until(lambda: call.state == "DISCONNECTED", 10, "end of the call")
    account.setRegistration(False)
    account.registered = None
    until(lambda: account.registered is not None, 10, "end of the registration")
    tell("done")
    os._exit(0)  # the library's own end takes seconds


if __name__ == "__main__":
    main()
