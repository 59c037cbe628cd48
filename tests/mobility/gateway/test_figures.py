"""Fig. 39, step by step: a TLS session with the gateway, and in it one of the program with the server inside."""

from __future__ import annotations

import ssl

import pytest

from mobility.gateway.outputs import SessionOpened, TunnelOpened
from mobility.gateway.secure import SecureLink
from sip_test_env.certificates import Authority
from tests.mobility.gateway.world import NAME, SERVER, Files, World, write_server

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE, SERVER_HELLO_DONE = 1, 2, 11, 12, 14
CLIENT_KEY_EXCHANGE = 16
CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA = 20, 22, 23


def told(records: bytes) -> list[str]:
    """Records of TLS 1.2 by content type, and handshake messages that are not encrypted yet by theirs."""
    found: list[str] = []
    encrypted = False
    while records:
        kind, length = records[0], int.from_bytes(records[3:5], "big")
        body, records = records[5 : 5 + length], records[5 + length :]
        if kind == CHANGE_CIPHER_SPEC:
            encrypted = True
            found.append("ccs")
        elif kind == HANDSHAKE and encrypted:
            found.append("finished")
        elif kind == HANDSHAKE:
            while body:
                found.append(f"handshake {body[0]}")
                body = body[4 + int.from_bytes(body[1:4], "big") :]
        else:
            found.append(f"record {kind}")
    return found


def handshake(client: SecureLink, server: SecureLink) -> tuple[list[str], list[str]]:
    """Until both stand; what each of them said."""
    said: tuple[list[bytes], list[bytes]] = [], []
    client.start()
    for _ in range(4):
        for which, (sender, receiver) in enumerate(((client, server), (server, client))):
            out = sender.outgoing()
            if out:
                said[which].append(out)
                receiver.receive(out)
    assert client.established
    assert server.established
    return told(b"".join(said[0])), told(b"".join(said[1]))


def test_steps_701_to_708_are_the_messages_of_the_handshake(files: Files) -> None:
    """As the figure has them, in TLS 1.2; TLS 1.3 needs fewer (RFC 8446 section 2)."""
    world = World(files)
    assert world.gateway is not None
    world.gateway.context.maximum_version = ssl.TLSVersion.TLSv1_2
    world.gateway.context.options |= ssl.OP_NO_TICKET  # the ticket is a message that the figure does not have
    ours = SecureLink(world.terminal._context, server_name=NAME)
    terminal, gateway = handshake(ours, SecureLink(world.gateway.context))
    assert terminal == [
        f"handshake {CLIENT_HELLO}",  # 701
        f"handshake {CLIENT_KEY_EXCHANGE}",  # 704
        "ccs",  # 705
        "finished",  # 706
    ]
    assert gateway == [
        f"handshake {SERVER_HELLO}",  # 702
        f"handshake {CERTIFICATE}",
        f"handshake {SERVER_KEY_EXCHANGE}",
        f"handshake {SERVER_HELLO_DONE}",  # 703
        "ccs",  # 707
        "finished",  # 708
    ]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "impostor"])
def test_figure_39(files: Files, tmp_path_factory: pytest.TempPathFactory, trusted: bool) -> None:
    world = World(files)
    world.echo = False
    world.start()
    assert [event.gateway for event in world.seen("terminal", SessionOpened)] == ["office"]  # 701 to 709
    program_number = world.open()
    world.run(1.0)
    assert [event.destination for event in world.seen("gateway", TunnelOpened)] == [f"{SERVER}:5061"]

    inside, impostor = Authority("of the server inside"), Authority("somebody else")
    folder = tmp_path_factory.mktemp("inner")
    certificate, key = write_server(folder, inside if trusted else impostor, SERVER)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cadata=inside.pem.decode())
    program, server = SecureLink(client_context, server_name=SERVER), SecureLink(server_context)

    def carry() -> None:
        """What the two say goes through the session with the gateway, in both directions."""
        for _ in range(6):
            out = program.outgoing()
            if out:
                world.say(program_number, out)
                world.run(0.1)
                arrived = world.destinations[1].received
                server.receive(bytes(arrived))
                arrived.clear()
            back = server.outgoing()
            if back:
                world.answer(1, back)
                world.run(0.1)
                arrived = world.programs[program_number].received
                heard.extend(program.receive(bytes(arrived)))
                arrived.clear()

    heard = bytearray()
    program.start()  # 710: the same messages once more, inside
    if not trusted:
        with pytest.raises(Exception, match="certificate-untrusted"):
            carry()
        return
    carry()
    assert program.established  # 711
    assert server.established
    server.send(b"SIP/2.0 200 OK")  # 712
    carry()
    assert heard == b"SIP/2.0 200 OK"
    # A movement makes the outer session anew; the inner one does not notice.
    world._do("terminal", world.terminal.moved(world.now))
    world.run(1.0)
    server.send(b"NOTIFY")
    carry()
    assert heard == b"SIP/2.0 200 OKNOTIFY"
    assert len(world.seen("terminal", SessionOpened)) == 2
