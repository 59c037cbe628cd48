"""pjsua2 under load: the same as `bench.loaded_phone` with the wheel ``pjsua2-python``, of which a process has 4 calls.

Given as much help as its settings allow: sound at the codec's rate, no voice activity detection (it sends all packets,
like ours), no echo cancellation, a null sound device. What it receives is decoded and mixed into that device.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from typing import Any

import pjsua2 as pj

from bench.loaded import HOST, undisturbed
from bench.pjsua_endpoint import initialised


class LoadedCall(pj.Call):  # type: ignore[misc]
    """One call that plays as soon as there is audio."""

    def __init__(self, account: LoadedAccount, number: int = -1) -> None:
        super().__init__(account, number)
        self.account = account
        self.talks = False

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        if self.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.account.calls.discard(self)
            self.account.over.append(self)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()  # its parts live no longer than the whole
        for number, media in enumerate(info.media):
            if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                self.talks = True
                if self.account.player is not None:
                    audio = self.getAudioMedia(number)
                    self.account.player.startTransmit(audio)
                    audio.startTransmit(self.account.output)


class LoadedAccount(pj.Account):  # type: ignore[misc]
    def __init__(self, player: pj.AudioMediaPlayer | None, output: pj.AudioMedia) -> None:
        super().__init__()
        self.player, self.output = player, output
        self.calls: set[LoadedCall] = set()
        self.over: list[LoadedCall] = []
        "They may be forgotten only outside of their own callbacks."

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = LoadedCall(self, prm.callId)
        self.calls.add(call)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        call.answer(answer)


def count(calls: set[LoadedCall]) -> dict[str, float]:
    wholes = [call.getStreamStat(0) for call in calls if call.talks]
    of = [whole.rtcp for whole in wholes]
    return {
        "calls": len(of),
        "sent": sum(one.txStat.pkt for one in of),
        "received": sum(one.rxStat.pkt for one in of),
        "missing": sum(one.rxStat.loss + one.rxStat.discard for one in of),
        "processor": time.process_time(),
        "at": time.monotonic(),
    }


def main(orders: dict[str, Any]) -> None:
    undisturbed(orders["processor"])
    endpoint = initialised()
    transport = pj.TransportConfig()
    transport.boundAddress = HOST
    number = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(orders["codec"]) else 0)
    player = None
    if orders["play"]:
        player = pj.AudioMediaPlayer()
        player.createPlayer(orders["play"])
    account = LoadedAccount(player, endpoint.audDevManager().getPlaybackDevMedia())
    mine = pj.AccountConfig()
    mine.idUri = f"sip:phone@{HOST}"
    mine.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY if orders["srtp"] == "mandatory" else pj.PJMEDIA_SRTP_DISABLED
    mine.mediaConfig.srtpSecureSignaling = 0
    mine.mediaConfig.transportConfig.boundAddress = HOST
    mine.mediaConfig.transportConfig.port = orders["ports"]
    mine.mediaConfig.transportConfig.portRange = 1000
    account.create(mine)
    port = int(endpoint.transportGetInfo(number).localName.rpartition(":")[2])

    def tell(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    tell({"port": port})
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    while True:
        endpoint.libHandleEvents(5)
        account.over.clear()
        if not waiting.select(0):
            continue
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # the library's own end takes seconds
        order = json.loads(line)
        if "dial" not in order:
            tell(count(account.calls))
            continue
        fresh = [LoadedCall(account) for _ in range(order["calls"])]
        account.calls.update(fresh)
        for call in fresh:
            call.makeCall(order["dial"], pj.CallOpParam(True))
        end = time.monotonic() + 10
        while not all(call.talks for call in fresh) and time.monotonic() < end:
            endpoint.libHandleEvents(5)
        tell({"calls": sum(call.talks for call in account.calls)})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
