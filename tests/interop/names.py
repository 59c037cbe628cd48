"""A name server in the home operator's network: shared by the tests of this folder."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import partial

import dns.message
import dns.rcode
import dns.rrset

from sip_test_env import namespace
from sip_test_env.plan import Plan


@contextlib.contextmanager
def name_server(plan: Plan, names: Mapping[str, Mapping[str, str]]) -> Iterator[list[str]]:
    """Beside the proxy; knows ``names``, each with its records (one of a type). Yields who asked."""
    asked: list[str] = []
    where = plan.namespace("proxy")
    server, listener = (
        namespace.run_in(where, partial(socket.socket, socket.AF_INET6, kind))
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    )
    for each in (server, listener):
        each.bind((str(plan.proxy), 53))
        each.settimeout(0.2)
    listener.listen()
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                data, sender = server.recvfrom(4096)
            except TimeoutError:
                continue
            asked.append(sender[0])
            server.sendto(_answer(data, names), sender)

    def serve_streams() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection, sender = listener.accept()
                with connection, connection.makefile("rb") as stream:
                    connection.settimeout(2.0)
                    while len(size := stream.read(2)) == 2:
                        asked.append(sender[0])
                        answer = _answer(stream.read(int.from_bytes(size)), names)
                        connection.sendall(len(answer).to_bytes(2) + answer)

    threads = [threading.Thread(target=target) for target in (serve, serve_streams)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.close()
        listener.close()


def _answer(data: bytes, names: Mapping[str, Mapping[str, str]]) -> bytes:
    query = dns.message.from_wire(data)
    question = query.question[0]
    response = dns.message.make_response(query)
    records = names.get(question.name.to_text())
    if records is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif (known := records.get(question.rdtype.name)) is not None:
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype.name, known))
    return response.to_wire()
