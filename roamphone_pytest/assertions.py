"""Assertions about calls. Each raises AssertionError with what was found instead."""

from __future__ import annotations

from pathlib import Path

from roamphone_pytest.flow import Flow
from softphone.calls.call import Call
from softphone.media.files import read_sound
from softphone.media.quality import RATE, pesq
from softphone.media.settings import MediaStatistics


def assert_flow(flow: Flow, pattern: str) -> None:
    """The messages are these, in this order: see `Flow.matches`."""
    __tracebackhide__ = True
    if not flow.matches(pattern):
        raise AssertionError(f"the flow is\n  {flow}\nand not\n  {pattern}\n{flow.ladder()}")


async def assert_digits(call: Call, digits: str, timeout: float = 5.0) -> None:
    """The other side has pressed these keys, or does so in time, and no others before."""
    __tracebackhide__ = True
    came = await call.gather(len(digits), timeout=timeout)
    if came != digits:
        raise AssertionError(f"the digits {came!r} came within {timeout:g} s, not {digits!r}")


def assert_mos(call: Call, least: float) -> None:
    """What this end heard was at least that good: mean of the E-model's estimates, 1 to 4.4, one a second."""
    __tracebackhide__ = True
    found = call.statistics()
    mos = found.mos_mean if isinstance(found, MediaStatistics) else None
    if mos is None:
        raise AssertionError("nothing was heard for a second: there is no quality to judge")
    if mos < least:
        assert isinstance(found, MediaStatistics)
        raise AssertionError(
            f"the quality is {mos:.2f}, not {least:g}: {found.lost} packets of {found.lost + found.received} lost, "
            f"{found.late} late, jitter {found.jitter_ms:.0f} ms ({found.codec})"
        )


def assert_heard(spoken: Path | str, recorded: Path | str, least: float) -> None:
    """A recording sounds like the file that was played: wide-band PESQ, 1.04 to 4.64 (extra ``demo``)."""
    __tracebackhide__ = True
    score = pesq(read_sound(spoken, RATE)[0], read_sound(recorded, RATE)[0])
    if score < least:
        raise AssertionError(f"PESQ of {recorded} is {score:.2f}, not {least:g}")
