"""A SIP peer reduced to what these tests need; shares no code with the phone, so that both cannot be wrong alike."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import ssl
from dataclasses import dataclass, field
from typing import Self

from sip_test_env import namespace
from sip_test_env.network import Account, TestNetwork


@dataclass(frozen=True)
class Message:
    """A parsed message; header names in lower case, in order."""

    start: str
    headers: list[tuple[str, str]]
    body: str

    @classmethod
    def parse(cls, text: str) -> Self:
        head, _, body = text.partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value.strip()))
        return cls(start, headers, body)

    @property
    def status(self) -> int:
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        return "" if self.status else self.start.split()[0]

    @property
    def uri(self) -> str:
        return self.start.split()[1]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        return self.all(name)[0]


def challenge_parameters(challenge: str) -> dict[str, str]:
    return {name: quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^",\s]+))', challenge)}


def authorization(account: Account, password: str, method: str, uri: str, challenge: str) -> str:
    """An answer to a digest challenge (RFC 7616, RFC 8760)."""
    values = challenge_parameters(challenge)
    algorithm = values.get("algorithm", "MD5")
    make = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm]

    def digest(text: str) -> str:
        return make(text.encode()).hexdigest()

    a1 = digest(f"{account.user}:{values['realm']}:{password}")
    a2 = digest(f"{method}:{uri}")
    count, cnonce = "00000001", secrets.token_hex(4)
    answer = digest(f"{a1}:{values['nonce']}:{count}:{cnonce}:auth:{a2}")
    return (
        f'Digest username="{account.user}", realm="{values["realm"]}", nonce="{values["nonce"]}", uri="{uri}", '
        f'response="{answer}", algorithm={algorithm}, qop=auth, cnonce="{cnonce}", nc={count}'
    )


@dataclass
class Peer:
    """One user agent on a socket inside a node of the network."""

    network: TestNetwork
    node: str
    local: str
    transport: str = "UDP"
    proxy: str = ""
    user: str = "6001"
    domain: str = "roamphone.test"
    call_id: str = field(default_factory=lambda: secrets.token_hex(8))
    tag: str = field(default_factory=lambda: secrets.token_hex(4))
    sequence: int = 0
    buffer: bytes = b""

    def __enter__(self) -> Self:
        plan = self.network.plan
        self.proxy = self.proxy or str(plan.proxy)
        family = socket.AF_INET6 if ":" in self.proxy else socket.AF_INET
        port = plan.sips_port if self.transport == "TLS" else plan.sip_port

        def connect() -> socket.socket:
            kind = socket.SOCK_DGRAM if self.transport == "UDP" else socket.SOCK_STREAM
            opened = socket.socket(family, kind)
            opened.settimeout(5)
            opened.bind((self.local, 0))
            opened.connect((self.proxy, port))
            return opened

        self.socket = namespace.run_in(plan.namespace(self.node), connect)
        if self.transport == "TLS":
            context = ssl.create_default_context(cafile=str(self.network.ca_file))
            self.socket = context.wrap_socket(self.socket, server_hostname=self.proxy)
        self.port = self.socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def host(self) -> str:
        return f"[{self.local}]" if ":" in self.local else self.local

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.host}:{self.port};transport={self.transport.lower()}>"

    def branch(self) -> str:
        return f"z9hG4bK{secrets.token_hex(8)}"

    def request(self, method: str, uri: str, to: str, *extra: str, branch: str = "", sequence: int = 0) -> str:
        """Sends a request outside a dialog (or with the caller's own To); returns its branch."""
        branch = branch or self.branch()
        if not sequence:
            self.sequence += 1
            sequence = self.sequence
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.host}:{self.port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self.user}@{self.domain}>;tag={self.tag}",
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {sequence} {method}",
            f"Contact: {self.contact}",
            *extra,
            "Content-Length: 0",
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return branch

    def answer(self, request: Message, status: str, *extra: str) -> None:
        copied = [
            f"{name}: {value}"
            for name, value in request.headers
            if name in ("via", "record-route", "from", "call-id", "cseq")
        ]
        to = request.first("to")
        if ";tag=" not in to and not status.startswith("100"):
            to += f";tag={self.tag}"
        lines = [f"SIP/2.0 {status}", *copied, f"To: {to}", f"Contact: {self.contact}", *extra, "Content-Length: 0"]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def receive(self) -> Message:
        """The next message, provisional 100s left out."""
        while True:
            message = self._receive()
            if message.status != 100:
                return message

    def _receive(self) -> Message:
        if self.transport == "UDP":
            return Message.parse(self.socket.recv(65535).decode())
        while b"\r\n\r\n" not in self.buffer:
            data = self.socket.recv(65535)
            if not data:
                raise EOFError("the proxy closed the connection")
            self.buffer += data
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        message = Message.parse(head.decode() + "\r\n\r\n")
        self.buffer = rest[int(message.first("content-length")) :]
        return message

    def transact(self, method: str, uri: str, to: str, *extra: str) -> Message:
        self.request(method, uri, to, *extra)
        return self.receive()

    def register(self, *, password: str | None = None, expires: int = 300) -> Message:
        """REGISTER, answered challenge included; returns the last response."""
        account = self.network.account(self.user)
        uri = f"sip:{account.domain}"
        to = f"<sip:{self.user}@{account.domain}>"
        first = self.transact("REGISTER", uri, to, f"Expires: {expires}")
        if first.status != 401:
            return first
        secret = account.password if password is None else password
        answer = authorization(account, secret, "REGISTER", uri, first.first("www-authenticate"))
        return self.transact("REGISTER", uri, to, f"Expires: {expires}", f"Authorization: {answer}")

    def invite(self, user: str) -> str:
        """INVITE with the proxy's challenge answered; returns the branch of the second INVITE."""
        account = self.network.account(self.user)
        uri = f"sip:{user}@{account.domain}"
        to = f"<{uri}>"
        branch = self.request("INVITE", uri, to)
        refusal = self.receive()
        if refusal.status != 407:
            raise AssertionError(f"expected a challenge, got {refusal.start}")
        self.request("ACK", uri, refusal.first("to"), branch=branch, sequence=self.sequence)
        answer = authorization(account, account.password, "INVITE", uri, refusal.first("proxy-authenticate"))
        return self.request("INVITE", uri, to, f"Proxy-Authorization: {answer}")
