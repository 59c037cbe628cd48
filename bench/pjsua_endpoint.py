"""PJSUA2 as the phones of the benchmark use it: one thread, 8 kHz, a packet every 20 ms, also of silence."""

from __future__ import annotations

import pjsua2 as pj


def initialised() -> pj.Endpoint:
    """An endpoint that still wants its transport, then ``libStart``."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    settings = pj.EpConfig()
    settings.logConfig.level = settings.logConfig.consoleLevel = 0
    settings.uaConfig.threadCnt = 0
    settings.uaConfig.mainThreadOnly = True
    settings.medConfig.clockRate = settings.medConfig.sndClockRate = 8000
    settings.medConfig.noVad = True  # all packets, as ours
    settings.medConfig.ecTailLen = 0
    endpoint.libInit(settings)
    return endpoint
