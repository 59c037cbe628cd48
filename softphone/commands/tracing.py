"""What the options ``--trace`` and ``--hep`` of commands that run phones do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from softphone.commands.common import complain
from softphone.network.hep import HepSender
from softphone.network.trace import PhoneTrace
from softphone.telephone import Telephone


class Tracing:
    """Where SIP and RTP of phones go."""

    def __init__(self, trace: PhoneTrace | None, hep: HepSender | None) -> None:
        self._trace = trace
        self._hep = hep

    def watch(self, phone: Telephone) -> None:
        """From now on; before it starts, or just then."""
        if self._trace is not None:
            phone.watch_messages(self._trace.sip)
            phone.media_trace = self._trace.media
        if self._hep is not None:
            phone.watch_messages(self._hep.sip)


@contextmanager
def tracing(options: argparse.Namespace) -> Iterator[Tracing]:
    """As the options want it. Raises ConfigError. In the event loop."""
    with ExitStack() as stack:
        trace = None if options.trace is None else stack.enter_context(PhoneTrace(options.trace))
        hep = None if options.hep is None else stack.enter_context(closing(HepSender(options.hep)))
        try:
            yield Tracing(trace, hep)
        finally:
            if trace is not None and trace.failure:
                complain(trace.failure)
            if hep is not None and hep.lost:
                complain(f"{hep.lost} messages could not be sent to {options.hep}")
