"""The phone: accounts, calls, media, automation. Knows mobility only by its public API (`mobility.client`).

What programs use is here: ``from softphone import Softphone, Account``. A name is imported when it is first asked for,
so that ``import softphone`` costs next to nothing. Everything else may change between versions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softphone.accounts.accounts import Phones
    from softphone.calls.call import Call, CallState
    from softphone.calls.conference import Conference
    from softphone.calls.incoming import IncomingCall
    from softphone.calls.playback import Playback
    from softphone.calls.transfer import TransferRequest
    from softphone.config import Account, AutoAnswer, Consent
    from softphone.daemon.client import DaemonClient
    from softphone.errors import (
        CallError,
        CallRejected,
        ChangeRefused,
        ConfigError,
        RegistrationError,
        SoftphoneError,
        SubscriptionError,
        TransportError,
        Unsupported,
    )
    from softphone.events import (
        CallAnswered,
        CallChanged,
        CallDigit,
        CallEarlyMedia,
        CallEnded,
        CallEvent,
        CallHold,
        CallIncoming,
        CallIpsec,
        CallMedia,
        CallMuted,
        CallProgress,
        CallRedirected,
        CallRefused,
        CallReplaced,
        CallTransferred,
        CallTransferRequested,
        ConferenceChanged,
        DeviceChanged,
        DeviceLost,
        DialogsChanged,
        EndedBy,
        EngineLost,
        Event,
        Handover,
        InfoReceived,
        Listener,
        MailboxChanged,
        MessageReceived,
        MessageSent,
        PresenceChanged,
        PublicationFailed,
        Published,
        Registered,
        RegistrationFailed,
        SubscriptionChanged,
        TransferProgress,
        Unregistered,
    )
    from softphone.media.dtmf import DigitMethod
    from softphone.media.files import FileError, LoopedSource, MemorySink, SamplesSource, WavRecorder, WavSource
    from softphone.media.ice_description import IceSettings
    from softphone.media.keying import Keying, SrtpMode
    from softphone.media.pcm import PcmSink, PcmSource
    from softphone.media.recorder import CallRecorder
    from softphone.media.settings import MediaStatistics
    from softphone.network.trace import PhoneTrace
    from softphone.packages.presence import Presence
    from softphone.people.contacts import Contacts
    from softphone.people.history import History
    from softphone.phone import Softphone
    from softphone.pjsua.phone import PjsuaPhone
    from softphone.sip.transport import Transport
    from softphone.telephone import Telephone

_PLACES = {
    "softphone.accounts.accounts": ("Phones",),
    "softphone.calls.call": ("Call", "CallState"),
    "softphone.calls.conference": ("Conference",),
    "softphone.calls.incoming": ("IncomingCall",),
    "softphone.calls.playback": ("Playback",),
    "softphone.calls.transfer": ("TransferRequest",),
    "softphone.config": ("Account", "AutoAnswer", "Consent"),
    "softphone.daemon.client": ("DaemonClient",),
    "softphone.errors": (
        "CallError",
        "CallRejected",
        "ChangeRefused",
        "ConfigError",
        "RegistrationError",
        "SoftphoneError",
        "SubscriptionError",
        "TransportError",
        "Unsupported",
    ),
    "softphone.events": (
        "CallAnswered",
        "CallMuted",
        "DeviceChanged",
        "DeviceLost",
        "CallChanged",
        "CallDigit",
        "CallEarlyMedia",
        "CallEnded",
        "CallEvent",
        "CallHold",
        "CallIncoming",
        "CallIpsec",
        "CallMedia",
        "CallMuted",
        "CallProgress",
        "CallRedirected",
        "CallRefused",
        "CallReplaced",
        "CallTransferRequested",
        "CallTransferred",
        "ConferenceChanged",
        "DialogsChanged",
        "DeviceLost",
        "DeviceChanged",
        "EndedBy",
        "EngineLost",
        "Event",
        "Handover",
        "InfoReceived",
        "Listener",
        "MailboxChanged",
        "MessageReceived",
        "MessageSent",
        "PresenceChanged",
        "PublicationFailed",
        "Published",
        "Registered",
        "RegistrationFailed",
        "SubscriptionChanged",
        "TransferProgress",
        "Unregistered",
    ),
    "softphone.media.dtmf": ("DigitMethod",),
    "softphone.media.files": ("FileError", "LoopedSource", "MemorySink", "SamplesSource", "WavRecorder", "WavSource"),
    "softphone.media.ice_description": ("IceSettings",),
    "softphone.media.keying": ("Keying", "SrtpMode"),
    "softphone.media.pcm": ("PcmSink", "PcmSource"),
    "softphone.media.recorder": ("CallRecorder",),
    "softphone.media.settings": ("MediaStatistics",),
    "softphone.network.trace": ("PhoneTrace",),
    "softphone.packages.presence": ("Presence",),
    "softphone.people.contacts": ("Contacts",),
    "softphone.people.history": ("History",),
    "softphone.phone": ("Softphone",),
    "softphone.pjsua.phone": ("PjsuaPhone",),
    "softphone.sip.transport": ("Transport",),
    "softphone.telephone": ("Telephone",),
}
_HOMES = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Account",
    "AutoAnswer",
    "Call",
    "CallAnswered",
    "CallChanged",
    "CallDigit",
    "CallEarlyMedia",
    "CallEnded",
    "CallError",
    "CallEvent",
    "CallHold",
    "CallIncoming",
    "CallIpsec",
    "CallMedia",
    "CallMuted",
    "CallProgress",
    "CallRecorder",
    "CallRedirected",
    "CallRefused",
    "CallRejected",
    "CallReplaced",
    "CallState",
    "CallTransferRequested",
    "CallTransferred",
    "ChangeRefused",
    "Conference",
    "ConferenceChanged",
    "ConfigError",
    "Consent",
    "Contacts",
    "DaemonClient",
    "DeviceChanged",
    "DeviceLost",
    "DialogsChanged",
    "DigitMethod",
    "EndedBy",
    "EngineLost",
    "Event",
    "FileError",
    "Handover",
    "History",
    "IceSettings",
    "IncomingCall",
    "InfoReceived",
    "Keying",
    "Listener",
    "LoopedSource",
    "MailboxChanged",
    "MediaStatistics",
    "MemorySink",
    "MessageReceived",
    "MessageSent",
    "PcmSink",
    "PcmSource",
    "PhoneTrace",
    "Phones",
    "PjsuaPhone",
    "Playback",
    "Presence",
    "PresenceChanged",
    "PublicationFailed",
    "Published",
    "Registered",
    "RegistrationError",
    "RegistrationFailed",
    "SamplesSource",
    "Softphone",
    "SoftphoneError",
    "SrtpMode",
    "SubscriptionChanged",
    "SubscriptionError",
    "Telephone",
    "TransferProgress",
    "TransferRequest",
    "Transport",
    "TransportError",
    "Unregistered",
    "Unsupported",
    "WavRecorder",
    "WavSource",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
