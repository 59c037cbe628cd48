"""What all phones of one test send and receive: in memory for flows, and in a file for Wireshark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roamphone_pytest import flow
from roamphone_pytest.flow import Flow
from softphone.network.trace import PhoneTrace
from softphone.phone import Softphone
from softphone.sip.endpoint import Traced

MOST_MESSAGES = 20_000
"Of one phone that are remembered."


class Recorder:
    """Of one test. The file (SIP, and RTP as on the wire) is made with the first message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trace: PhoneTrace | None = None
        self._messages: dict[Softphone, list[Traced]] = {}

    def phone(self, *arguments: Any, **options: Any) -> Softphone:
        """`Softphone` with these arguments, recorded."""
        messages: list[Traced] = []

        def on_message(message: Traced) -> None:
            if len(messages) < MOST_MESSAGES:
                messages.append(message)
            self._file().sip(message)

        def on_media(sent: bool, local: tuple[str, int], peer: tuple[str, int], data: bytes) -> None:
            self._file().media(sent, local, peer, data)

        phone = Softphone(*arguments, trace=on_message, media_trace=on_media, **options)
        self._messages[phone] = messages
        return phone

    def flow(self, phone: Softphone, call: str | None = None) -> Flow:
        """What the phone sent and received in a call (its Call-ID; None: its latest). Raises LookupError."""
        found = flow.steps(self._messages[phone])
        known = flow.calls(found)
        if not known or (call is not None and call not in known):
            raise LookupError(f"{phone.account.user} had no call" + ("" if call is None else f" {call}"))
        return flow.of_call(found, known[-1] if call is None else call)

    def ladders(self) -> str:
        """All calls of all phones, for people."""
        drawn = []
        for phone, messages in self._messages.items():
            found = flow.steps(messages)
            for call in flow.calls(found):
                drawn.append(f"{phone.account.aor}, call {call}:\n{flow.of_call(found, call).ladder()}")
        return "\n".join(drawn)

    def close(self) -> None:
        """Complete the file."""
        if self._trace is not None:
            self._trace.close()

    @property
    def empty(self) -> bool:
        """There is no file: nobody has said anything."""
        return self._trace is None

    def _file(self) -> PhoneTrace:
        if self._trace is None:
            self._trace = PhoneTrace(self.path)
        return self._trace
