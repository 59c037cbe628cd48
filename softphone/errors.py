"""The errors of the phone, one tree: every message says what, where and what to do next."""

from __future__ import annotations


class SoftphoneError(Exception):
    """Root of everything the phone raises on purpose."""


class ConfigError(SoftphoneError):
    """A setting is missing or contradicts another one."""


class TransportError(SoftphoneError):
    """A peer cannot be reached, or the connection to it failed (name, network, TLS)."""


class RegistrationError(SoftphoneError):
    """The registrar refused, or does not answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"registration failed: {status} {reason}" if status else f"registration failed: {reason}")
        self.status = status
        "SIP status; 0 when no response came."
        self.reason = reason


class CallError(SoftphoneError):
    """A call did not come about, or an operation does not fit its state."""


class CallRejected(CallError):
    """The other side, or a proxy on the way, answered with a final response other than 2xx."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"call refused: {status} {reason}")
        self.status = status
        self.reason = reason


class Unsupported(CallError):
    """The engine of an account cannot do this."""

    def __init__(self, engine: str, what: str) -> None:
        super().__init__(f"the engine {engine} cannot do this ({what}): give the account the engine roamphone")


class SubscriptionError(SoftphoneError):
    """The other side does not tell what we want to know."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"the subscription to {package} ended: {reason}")
        self.reason = reason


class ChangeRefused(CallError):
    """The other side did not accept a change of the running call; the call goes on as it was."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"{what} was refused: {status} {reason}; the call goes on as it was")
        self.status = status
        self.reason = reason
