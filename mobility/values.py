"""Values in configuration files: each function takes what stands there and returns it checked, or raises ValueError.

Its docstring says what is expected; `Table` puts it into the complaint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal, TypeVar

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.association import RESERVED_SPIS
from mobility.net.namespace import valid_name

T = TypeVar("T")

SMALLEST_MTU = 1280
LONGEST_LIFETIME = 0xFFFF * 4
"Seconds; the wire counts units of four in 16 bits (RFC 6275 section 6.1.7)."

LONGEST_RUNTIME = 90
"Bytes."

STORE_SCHEMES = ("redis://", "rediss://", "unix://")
PROTOCOLS = {"icmpv6": 58, "tcp": 6, "udp": 17}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


class ConfigurationError(Exception):
    """The file cannot be used; the text says where in it and what is expected there."""


class Table:
    """A table of the file: hands out its keys, each checked, and at the end complains about those nobody wanted."""

    def __init__(self, path: Path, name: str, values: Mapping[str, object]) -> None:
        self._path = path
        self._name = name
        self._left = dict(values)
        self._known: list[str] = []

    def required(self, key: str, check: Callable[[object], T]) -> T:
        self._known.append(key)
        if key not in self._left:
            raise self.error(key, f"is missing; expected is {expectation(check)}")
        return self._checked(key, check)

    def optional(self, key: str, check: Callable[[object], T], default: T) -> T:
        self._known.append(key)
        return self._checked(key, check) if key in self._left else default

    def table(self, key: str, missing: Mapping[str, object] | None = None) -> Table:
        self._known.append(key)
        value = self._left.pop(key, missing)
        if value is None:
            raise self.error(key, "is missing; expected is a table of this name")
        if not isinstance(value, dict):
            raise self.error(key, "has to be a table")
        return Table(self._path, self._at(key), value)

    def tables(self, key: str) -> list[Table]:
        self._known.append(key)
        rows = self._left.pop(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(key, f"has to be written as [[{self._at(key)}]], once for each")
        return [Table(self._path, f"{self._at(key)}[{number}]", row) for number, row in enumerate(rows)]

    def end(self) -> None:
        for key in self._left:
            raise self.error(key, f"is not known here; there are {', '.join(sorted(self._known))}")

    def __contains__(self, key: str) -> bool:
        return key in self._left

    @property
    def where(self) -> str:
        """File and name of the table, for messages."""
        return f"{self._path}: {self._name}"

    def beside(self, path: Path) -> Path:
        """A path that is relative to the directory of the file."""
        return self._path.parent / path

    def error(self, key: str, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path}: {self._at(key)}: {why}")

    def _checked(self, key: str, check: Callable[[object], T]) -> T:
        value = self._left.pop(key)
        try:
            return check(value)
        except ValueError:
            # Keys and passwords are not for error messages.
            shown = "this" if check in (key_material, store_url) else repr(value)
            raise self.error(key, f"{shown} is not {expectation(check)}") from None

    def _at(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def expectation(check: Callable[..., object]) -> str:
    return " ".join((check.__doc__ or "something else").split())


def one_of(kind: Callable[[str], T]) -> Callable[[object], T]:
    def check(value: object) -> T:
        return kind(text(value))

    check.__doc__ = "one of " + ", ".join(f'"{member.value}"' for member in kind)  # type: ignore[attr-defined]
    return check


def text(value: object) -> str:
    """a text of at least one character"""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def directory(value: object) -> Path:
    """the absolute path of a directory"""
    path = Path(text(value))
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError
    return path


def runtime_directory(value: object) -> Path:
    """the absolute path of a directory, 90 bytes at most (a Unix socket in it must fit into 108)"""
    path = directory(value)
    if len(bytes(path)) > LONGEST_RUNTIME:
        raise ValueError
    return path


def address(value: object) -> IPv6Address:
    """a unicast IPv6 address such as "2001:db8:1::a\""""
    read = IPv6Address(text(value))
    if read.is_multicast or read.is_unspecified or read.is_loopback or read.is_link_local:
        raise ValueError
    return read


def home_agent(value: object) -> IPv6Address | None:
    """a unicast IPv6 address such as "2001:db8:1::a", or "discover\""""
    return None if value == "discover" else address(value)


def home_prefix_intervals(value: object) -> tuple[float, float]:
    """two numbers of seconds, the shorter one first, such as [600, 86400]"""
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    shortest, longest = (_number(each, 0.0, 10 * 86400.0) for each in value)
    if shortest > longest:
        raise ValueError
    return shortest, longest


def preference(value: object) -> int:
    """a number from -32768 to 32767"""
    return _integer(value, -0x8000, 0x7FFF)


def advertise(value: object) -> float:
    """a number of seconds from 4 to 1800, or 0: not at all"""
    seconds = _number(value, 0.0, 1800.0)
    if 0 < seconds < 4:
        raise ValueError
    return seconds


def unicast_addresses(value: object) -> tuple[IPv4Address | IPv6Address, ...]:
    """a list of different unicast addresses such as ["192.0.2.1", "2001:db8::1"]"""
    if not isinstance(value, list):
        raise ValueError
    read = tuple(unicast4(one) if "." in text(one) and ":" not in one else address(one) for one in value)
    if len(set(read)) != len(read):
        raise ValueError
    return read


def unicast4(value: object) -> IPv4Address:
    """a unicast IPv4 address such as "192.0.2.1\""""
    read = IPv4Address(text(value))
    if read.is_multicast or read.is_unspecified or read.is_loopback or read.is_link_local or read.is_reserved:
        raise ValueError
    return read


def home_address4(value: object) -> IPv4Address | Literal["request"]:
    """ "request" (the home agent chooses) or an IPv4 address such as "192.0.2.1\""""
    return "request" if value == "request" else unicast4(value)


def network4(value: object) -> IPv4Network:
    """an IPv4 prefix such as "10.64.0.0/16\""""
    return IPv4Network(text(value))


def address4(value: object) -> IPv4Address:
    """an IPv4 address such as "192.0.2.1\""""
    return IPv4Address(text(value))


def address_with_prefix(value: object) -> IPv6Interface:
    """an IPv6 address with its prefix length such as "2001:db8:1::100/64\""""
    written = text(value)
    read = IPv6Interface(written)
    address(str(read.ip))
    if "/" not in written or not read.network.prefixlen:
        raise ValueError
    return read


def networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    """a list of networks such as ["2001:db8:5::/48", "10.0.0.0/8"]"""
    if not isinstance(value, list):
        raise ValueError
    return tuple(ip_network(text(each)) for each in value)


def mobile_networks(value: object) -> tuple[IPv6Network, ...]:
    """a list of IPv6 prefixes such as ["2001:db8:9::/64"], no one inside another"""
    if not isinstance(value, list):
        raise ValueError
    found = tuple(network(each) for each in value)
    if any(one.overlaps(other) for at, one in enumerate(found) for other in found[:at]):
        raise ValueError
    if any(
        each.network_address.is_multicast or each.network_address.is_link_local or not each.prefixlen for each in found
    ):
        raise ValueError
    return found


def mobile_network(value: object) -> IPv6Network:
    """an IPv6 prefix of 64 bits such as "2001:db8:9::/64\""""
    (found,) = mobile_networks([value])
    if found.prefixlen != 64:
        raise ValueError
    return found


def network(value: object) -> IPv6Network:
    """an IPv6 prefix such as "2001:db8:5::/64\""""
    return IPv6Network(text(value))


def interface(value: object) -> str:
    """the name of an interface such as "eth0\""""
    name = text(value)
    # Traces call the host OS's side "host", and links of a home agent's sockets begin with "udp/".
    if not _INTERFACE.fullmatch(name) or name in (".", "..", "host", "udp", "*"):
        raise ValueError
    return name


def interfaces(value: object) -> tuple[str, ...]:
    """a list of different interface names, the preferred one first, such as ["eth0", "wlan0"]; the last may be "*": all
    others"""
    if not isinstance(value, list) or not value:
        raise ValueError
    named = value[:-1] if value[-1] == "*" else value
    names = (*(interface(name) for name in named), *value[len(named) :])
    if len(set(names)) != len(names):
        raise ValueError
    return names


def scenarios(value: object) -> frozenset[int]:
    """a list of scenario numbers such as [10001, 10020]"""
    if not isinstance(value, list):
        raise ValueError
    return frozenset(_integer(number, 0, 65535) for number in value)


def namespace(value: object) -> str:
    """the name of a network namespace: letters, digits, dots, dashes, underscores"""
    name = text(value)
    if not valid_name(name):
        raise ValueError
    return name


def _integer(value: object, smallest: int, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise ValueError
    return value


def mtu(value: object) -> int:
    """an MTU of 1280 to 65535"""
    return _integer(value, SMALLEST_MTU, 65535)


def lifetime(value: object) -> int:
    """a number of seconds from 8 to 262140, divisible by 4"""
    seconds = _integer(value, 8, LONGEST_LIFETIME)
    if seconds % 4:
        raise ValueError
    return seconds


def link_local(value: object) -> IPv6Address:
    """a link-local IPv6 address such as "fe80::1\""""
    read = IPv6Address(text(value))
    if not read.is_link_local:
        raise ValueError
    return read


def prefixes(value: object) -> tuple[IPv6Network, ...]:
    """a list of IPv6 networks with 64 bits, such as ["2001:db8:a::/64"]"""
    if not isinstance(value, list):
        raise ValueError
    read = tuple(IPv6Network(text(each)) for each in value)
    if any(each.prefixlen != 64 or each.is_link_local or each.is_multicast for each in read):
        raise ValueError
    return read


def interval(value: object) -> tuple[float, float]:
    """the shortest and the longest interval in seconds, such as [1.0, 3.0]"""
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    return _number(value[0], 0.03, 1350.0), _number(value[1], 0.07, 1800.0)


def router_lifetime(value: object) -> int:
    """a number of seconds between 0 and 9000"""
    return _integer(value, 0, 9000)


def seconds(value: object) -> int:
    """a number of seconds between 0 and 4294967295, which means for ever"""
    return _integer(value, 0, 0xFFFFFFFF)


def registration_type(value: object) -> int:
    """1 (both ways through the tunnel to the MAP), 2 (only what the terminal receives) or 3 (neither)"""
    return _integer(value, 1, 3)


def distance(value: object) -> int:
    """a number between 1 and 15"""
    return _integer(value, 1, 15)


def map_preference(value: object) -> int:
    """a number between 0 (not to be used) and 15"""
    return _integer(value, 0, 15)


def truth(value: object) -> bool:
    """true or false"""
    if not isinstance(value, bool):
        raise ValueError
    return value


def _number(value: object, smallest: float, largest: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not smallest <= value <= largest:
        raise ValueError
    return float(value)


def overlap(value: object) -> float:
    """a number of seconds from 0 to 10"""
    return _number(value, 0, 10)


def keepalive(value: object) -> float:
    """a number of seconds from 1 to 300"""
    return _number(value, 1, 300)


def port(value: object) -> int:
    """a port number from 1 to 65535"""
    return _integer(value, 1, 65535)


def port_set(value: object) -> frozenset[int]:
    """a list of port numbers such as [5060]"""
    if not isinstance(value, list):
        raise ValueError
    return frozenset(port(one) for one in value)


def port_or_none(value: object) -> int:
    """a port number from 1 to 65535, or 0 for none"""
    return _integer(value, 0, 65535)


def listen(value: object) -> tuple[IPv4Address | IPv6Address, int]:
    """an address with a port such as "127.0.0.1:9464" or "[::1]:9464\""""
    host, colon, number = text(value).rpartition(":")
    if not colon or not (number.isascii() and number.isdecimal()):
        raise ValueError
    bracketed = host.startswith("[") and host.endswith("]")
    return IPv6Address(host[1:-1]) if bracketed else IPv4Address(host), port(int(number))


def listen_at(value: object) -> tuple[tuple[IPv4Address | IPv6Address, int], ...]:
    """a list of addresses with ports such as ["[::]:443", "0.0.0.0:443"]"""
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(listen(each) for each in value)


def host(value: object) -> str:
    """a name or an address such as "sip.example.com" or "2001:db8:8::8\""""
    written = text(value).lower()
    try:
        return str(ip_address(written))
    except ValueError:
        pass
    if not _HOST.fullmatch(written) or len(written) > 253:
        raise ValueError
    return written


def host_and_port(value: object) -> tuple[str, int | None]:
    """a name or an address, with a port if it is not the usual one: "gw.example.com:4433", "[2001:db8::1]:4433\""""
    written = text(value)
    if written.startswith("["):
        inside, bracket, rest = written[1:].partition("]")
        if not bracket or ":" not in inside:
            raise ValueError
    elif written.count(":") > 1:
        inside, rest = written, ""
    else:
        inside, colon, number = written.partition(":")
        rest = colon + number
    if not rest:
        return host(inside), None
    if rest[0] != ":" or not (rest[1:].isascii() and rest[1:].isdecimal()):
        raise ValueError
    return host(inside), port(int(rest[1:]))


def unicast_any(value: object) -> IPv4Address | IPv6Address:
    """an address such as "2001:db8:8::8\""""
    written = text(value)
    return address(written) if ":" in written else unicast4(written)


def port_list(value: object) -> tuple[int, ...]:
    """a list of port numbers such as [443, 5061]"""
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        raise ValueError
    return tuple(port(one) for one in value)


def texts(value: object) -> tuple[str, ...]:
    """a list of texts"""
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(text(one) for one in value)


def hold(value: object) -> float:
    """a number of seconds from 0 to 600"""
    return _number(value, 0, 600)


def count(value: object) -> int:
    """a number from 1 to 4096"""
    return _integer(value, 1, 4096)


def store_url(value: object) -> str:
    """a URL such as "redis://10.0.0.5:6379/0\""""
    url = text(value)
    if not url.startswith(STORE_SCHEMES) or not url.partition("://")[2]:
        raise ValueError
    return url


def path(value: object) -> Path:
    """a path, absolute or relative to this file"""
    if "\0" in text(value):
        raise ValueError
    return Path(text(value))


def spi(value: object) -> int:
    """an SPI from 0x100 to 0xffffffff"""
    return _integer(value, RESERVED_SPIS.stop, 0xFFFFFFFF)


def algorithm(value: object) -> Algorithm:
    return Algorithm.parse(text(value))


algorithm.__doc__ = "one of " + ", ".join(f'"{algorithm.value}"' for algorithm in Algorithm)


def key_material(value: object) -> bytes:
    """a key in hexadecimal digits (`mobility keys` makes one)"""
    if not isinstance(value, str):
        raise ValueError
    return bytes.fromhex(value.removeprefix("0x"))


def protocol(value: object) -> int:
    """ "udp", "tcp", "icmpv6" or a protocol number"""
    if isinstance(value, str) and value in PROTOCOLS:
        return PROTOCOLS[value]
    return _integer(value, 0, 255)


def ports(value: object) -> int | range:
    """a port number, or a range such as "16384-32767\""""
    if not isinstance(value, str):
        return _integer(value, 0, 65535)
    first, dash, last = value.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise ValueError
    read = range(_integer(int(first), 0, 65535), _integer(int(last), 0, 65535) + 1)
    if not read:
        raise ValueError
    return read
