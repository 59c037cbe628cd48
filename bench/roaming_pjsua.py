"""A PJSUA2 phone of `bench.reinvite` that is told when its address has changed.

    python -m bench.roaming_pjsua ORDERS

``ORDERS`` is JSON: ``user``, ``password``, ``domain``, ``proxy`` (a SIP URI), ``play`` (a WAV file, over and over),
``register`` (whether it does). It answers calls and does what lines of its standard input say: ``dial URI``, and
``moved``, which it hands to the library's own treatment of a change (``Endpoint.handleIpChange``). What happens, it
writes as lines of JSON: ``registered``, ``call``, ``media`` (there is sound, or sound anew).
"""

from __future__ import annotations

import json
import os
import selectors
import sys
from typing import Any

import pjsua2 as pj

from bench.pjsua_endpoint import initialised


def tell(what: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"event": what, **values}) + "\n")
    sys.stdout.flush()


class RoamingCall(pj.Call):  # type: ignore[misc]
    """Plays as soon as there is audio, and again when there is other audio."""

    def __init__(self, account: RoamingAccount, number: int = -1) -> None:
        super().__init__(account, number)
        self.account = account

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        tell("call", state=info.stateText, status=info.lastStatusCode)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()  # its parts live no longer than the whole
        for number, media in enumerate(info.media):
            if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(number)
                self.account.player.startTransmit(audio)
                audio.startTransmit(self.account.output)
                tell("media", remote=self.getStreamInfo(number).remoteRtpAddress)


class RoamingAccount(pj.Account):  # type: ignore[misc]
    def __init__(self, player: pj.AudioMediaPlayer, output: pj.AudioMedia) -> None:
        super().__init__()
        self.player, self.output = player, output
        self.call: RoamingCall | None = None

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        tell("registered", status=prm.code)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.call = RoamingCall(self, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        self.call.answer(answer)


def main(orders: dict[str, Any]) -> None:
    endpoint = initialised()
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMA") else 0)
    player = pj.AudioMediaPlayer()
    player.createPlayer(orders["play"])
    account = RoamingAccount(player, endpoint.audDevManager().getPlaybackDevMedia())
    mine = pj.AccountConfig()
    mine.idUri = f"sip:{orders['user']}@{orders['domain']}"
    if orders["register"]:
        mine.regConfig.registrarUri = f"sip:{orders['domain']}"
    mine.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", orders["user"], 0, orders["password"]))
    mine.sipConfig.proxies.append(orders["proxy"])
    account.create(mine)
    if not orders["register"]:
        tell("registered", status=0)
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    while True:
        endpoint.libHandleEvents(5)
        if not waiting.select(0):
            continue
        command, _, argument = sys.stdin.readline().strip().partition(" ")
        if command == "dial":
            account.call = RoamingCall(account)
            account.call.makeCall(argument, pj.CallOpParam(True))
        elif command == "moved":
            endpoint.handleIpChange(pj.IpChangeParam())
        else:
            os._exit(0)  # the library's own end takes seconds


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
