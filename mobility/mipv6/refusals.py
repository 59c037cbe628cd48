"""Why a binding was refused, and what to do about it: words for every status of RFC 6275, 5555 and 5648."""

from __future__ import annotations

from collections.abc import Mapping

from mobility.wire import mh

_S = mh.Status

_OPERATOR = "ask the operator of the home agent"
_BOTH_ENDS = "compare home_address and home_agent in [mobile_node] with what the operator gave out"
_BY_ITSELF = "nothing has to be done: the terminal tries again by itself"
_ANOTHER_VERSION = "the two ends run different versions: update both; overlap = 0 in [mobile_node] does without it"

_REASONS: Mapping[int, str] = {
    _S.REASON_UNSPECIFIED: f"the home agent gives no reason; its log may: {_OPERATOR}",
    _S.ADMINISTRATIVELY_PROHIBITED: f"this terminal is not admitted (any more); {_OPERATOR}",
    _S.INSUFFICIENT_RESOURCES: f"the other side has no room for a binding; {_BY_ITSELF}; if it lasts, {_OPERATOR}",
    _S.HOME_REGISTRATION_NOT_SUPPORTED: f"that node is no home agent, or does not serve now; {_BOTH_ENDS}",
    _S.NOT_HOME_SUBNET: f"the home address is not of the home agent's network; {_BOTH_ENDS}",
    _S.NOT_HOME_AGENT: f"the home agent does not serve this home address; {_BOTH_ENDS}",
    _S.DAD_FAILED: "another node in the home network uses the home address; switch that one off, or have the operator"
    " give out another home address",
    _S.SEQUENCE_OUT_OF_WINDOW: f"the number of the binding update is not the next one; {_BY_ITSELF} with the right one",
    _S.EXPIRED_HOME_NONCE_INDEX: f"the proof of the home address is old; {_BY_ITSELF}, through the tunnel meanwhile",
    _S.EXPIRED_CARE_OF_NONCE_INDEX: f"the proof of this place is too old; {_BY_ITSELF}, through the tunnel meanwhile",
    _S.EXPIRED_NONCES: f"the proofs of both addresses are too old; {_BY_ITSELF}, through the tunnel meanwhile",
    _S.REGISTRATION_TYPE_CHANGE: "the other side has a binding of the other kind (home agent or correspondent) for this"
    f" address; it ends with its lifetime, then {_BY_ITSELF}",
    _S.MOBILE_ROUTER_NOT_PERMITTED: f"the home agent does not serve mobile routers; {_OPERATOR}",
    _S.INVALID_PREFIX: f"the home agent takes the network behind this mobile router for an invalid one; {_OPERATOR}",
    _S.NOT_AUTHORIZED_FOR_PREFIX: f"this mobile router may not have that network; {_OPERATOR}",
    _S.FORWARDING_SETUP_FAILED: "the home agent wants to be told the networks of this mobile router: set mode ="
    ' "explicit" in [mobile_router]',
    _S.MCOA_MALFORMED: f"the home agent does not understand which of several places is meant; {_ANOTHER_VERSION}",
    _S.MCOA_NON_MCOA_BINDING_EXISTS: "the home agent has a binding of another program with this home address; end that"
    " one, or wait until its lifetime is over",
    _S.MCOA_PROHIBITED: "the home agent does not let a terminal be in several places; set overlap = 0 in [mobile_node]",
    _S.MCOA_UNKNOWN_COA: f"the home agent does not know the place that is given up (any more); {_BY_ITSELF}",
    _S.MCOA_BULK_REGISTRATION_PROHIBITED: f"the home agent takes one place in an update only; {_ANOTHER_VERSION}",
    _S.MCOA_SIMULTANEOUS_HOME_AND_FOREIGN_PROHIBITED: "the home agent does not let a terminal be home and away at the"
    " same time; disconnect one of the two links, or set overlap = 0 in [mobile_node]",
    _S.NOT_AUTHORIZED_FOR_IPV4_MOBILITY: f"this terminal may not be reached through IPv4; {_OPERATOR}, or leave out"
    " home_address4 in [mobile_node]",
    171: f"this terminal may not have that IPv4 home address; {_OPERATOR}, or leave out home_address4 in [mobile_node]",
    172: f"this terminal may not use mobility with IPv6; {_OPERATOR}",
    173: "the home agent gives out one IPv4 home address only; name one in home_address4 of [mobile_node]",
    _S.INVALID_CARE_OF_ADDRESS: "the address that this network gave to the terminal cannot be reached from outside, or"
    ' lies inside its own or too many mobile networks; use another network, or access = "udp" in [mobile_node]',
}

_REASONS4: Mapping[int, str] = {
    128: f"the home agent gives no reason; {_OPERATOR}",
    129: f"this terminal may not have an IPv4 home address; {_OPERATOR}, or leave out home_address4 in [mobile_node]",
    130: 'it is not the IPv4 address of this terminal; set home_address4 = "request" in [mobile_node]',
    131: 'it is no address that a terminal can have; set home_address4 = "request" in [mobile_node]',
    132: "the home agent gives out none on request, or has none left; ask its operator for one and name it in"
    " home_address4 of [mobile_node]",
    133: f"the home agent does not give out networks; {_OPERATOR}",
}


def why_refused(status: int) -> str:
    """Why a binding update was refused with this status (128 to 255), and what to do, for people."""
    return _REASONS.get(status, f"the reason has the number {status}, which this version does not know; {_OPERATOR}")


def why_refused4(status: int) -> str:
    """The same of an IPv4 home address (RFC 5555 section 3.2.1)."""
    return _REASONS4.get(status, f"the reason has the number {status}, which this version does not know; {_OPERATOR}")
