"""A try of an account: is the server found, does it register, and what is to be done when it does not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from softphone.config import Account
from softphone.errors import SoftphoneError
from softphone.events import Registered, RegistrationFailed
from softphone.exit_code import ExitCode
from softphone.phone import Softphone
from softphone.sip.uri import host_port

TRIAL_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened."""

    code: ExitCode
    servers: tuple[str, ...]
    "Where the account's requests go, best first, as ``udp [2001:db8::1]:5060``."
    text: str
    "In words, with what to do next."
    status: int = 0
    "Of the registrar's response; 0: none came."
    contact: str = ""
    expires: int = 0
    "Seconds that the registrar granted."


async def try_account(phone: Softphone, timeout: float = TRIAL_SECONDS) -> Trial:
    """Start a phone that has not been started, find its server, register, unregister and close it again.

    Raises nothing that the account or the network can cause: that is the result.
    """
    account = phone.account
    servers: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(timeout):
            events = phone.events()
            await phone.start()
            hop = account.registrar_uri if account.proxy_uri is None else account.proxy_uri
            if not account.register and account.proxy_uri is None:
                return Trial(
                    ExitCode.OK, (), f"the phone is ready at {phone.host} port {phone.port}; it does not register"
                )
            targets = await phone.endpoint.locate(hop, account.transport)
            servers = tuple(f"{way} {host_port(*address)}" for way, address, _ in targets)
            if not account.register:
                return Trial(ExitCode.OK, servers, "the server is found; the account does not register")
            async for event in events:
                match event:
                    case Registered(contact, expires):
                        text = f"registered as {account.aor}, for {expires} s, at {contact}"
                        return Trial(ExitCode.OK, servers, text, 200, contact, expires)
                    case RegistrationFailed(status, reason):
                        code, text = explain(status, reason, account)
                        return Trial(code, servers, text, status)
        raise SoftphoneError("the phone was closed")
    except TimeoutError:
        return Trial(ExitCode.TIMEOUT, servers, _silent(account, f"within {timeout:g} s"))
    except SoftphoneError as exc:
        return Trial(ExitCode.FAILURE, servers, str(exc))
    finally:
        await phone.close()


def explain(status: int, reason: str, account: Account) -> tuple[ExitCode, str]:
    """What the failure of a registration means for whoever has the account."""
    told = f"{status} {reason}" if status else reason
    match status:
        case 401 | 407 if not account.password:
            return ExitCode.UNAUTHORISED, f"the server wants a password ({told}): give the account one"
        case 401 | 407:
            who = account.user if account.auth_user is None else account.auth_user
            return ExitCode.UNAUTHORISED, (
                f"the server does not accept the password of {who} ({told}): check the password, "
                "and whether the provider gave you another name for the login (auth_user)"
            )
        case 403:
            return ExitCode.UNAUTHORISED, (
                f"the server forbids it ({told}): wrong password, or the account is locked or not for this network"
            )
        case 404 | 410 | 604:
            return ExitCode.REJECTED, f"the server does not know {account.aor} ({told}): check the address"
        case 486 | 600:
            return ExitCode.BUSY, f"the server is busy ({told}): try again later"
        case 408:
            return ExitCode.TIMEOUT, _silent(account, f"({told})")
        case 0 | 503:
            return ExitCode.FAILURE, f"the server cannot be reached ({told})"
        case _ if status >= 500:
            return ExitCode.FAILURE, f"the server failed ({told}): try again later"
        case _:
            return ExitCode.REJECTED, f"the server refuses ({told})"


def _silent(account: Account, when: str) -> str:
    return (
        f"the server does not answer {when}: check the address, whether a firewall lets {account.transport} through, "
        "and whether the server wants another transport"
    )
