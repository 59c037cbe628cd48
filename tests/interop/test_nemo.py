"""A train that moves, with a call in it: as a user runs the demo, and with Debian's baresip on an ordinary host."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from contextlib import AsyncExitStack
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from sip_test_env import cables
from sip_test_env.agents import PhoneProcess
from sip_test_env.capture import dissect
from sip_test_env.extensions.nemo import (
    CARRIAGE_PREFIX,
    NEMO,
    SEAT,
    TRAIN_PREFIX,
    TRAINS_CABLE,
    seat_address,
    wait_for_seat,
)
from sip_test_env.mobile_routers import MobileRouters
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import CORRESPONDENT, registered
from sip_test_env.plan import Plan
from sip_test_env.speech import speak
from tests.interop.baresip import write_baresip
from tests.interop.judges import no_complaints, scapy_reads
from tests.interop.test_demo import demo

pytestmark = [pytest.mark.root, pytest.mark.interop]

PLAN = Plan("test-nemo", NEMO)
TALK = 5.0
"Seconds."


@pytest.mark.alone
def test_a_call_in_a_train_that_moves_and_a_walk_through_it(tmp_path: Path) -> None:
    capture = tmp_path / "call.pcapng"
    status, report, said = demo(
        "--network", "nemo", "--instance", PLAN.instance, "--handovers", "2", "--capture", str(capture)
    )
    assert (status, report["ok"]) == (0, True), said
    assert report["network"] == "nemo"
    assert report["sip"]["sdp_connection"] == str(PLAN.home_address)
    assert [(each["from"], each["to"]) for each in report["handovers"]] == [
        ("the train in visited-a", "visited-b"),
        ("train", "carriage"),
    ]
    for audio in report["audio"].values():
        assert (audio["sent"] > 500, audio["lost"]) == (True, 0)
    check_nesting(capture, capture.with_name(capture.name + ".esp_sa"))


def check_nesting(capture: Path, table: Path) -> None:
    """One header and one ESP for each binding, outermost first, as tshark reads them where the train is plugged in."""
    fields = ["frame.protocols", "ipv6.src", "ipv6.dst"]
    rows = dissect(capture, table, fields, "rtp && !rtcp && !icmpv6")
    tunnel, speech = "ipv6:esp:", "ipv6:esp:udp:rtp"
    seen = Counter(row[0].removeprefix("eth:ethertype:") for row in rows)
    assert set(seen) == {tunnel * 2 + speech, tunnel * 3 + speech}, "Fig. 36, and once more in the carriage"
    assert min(seen.values()) > 100
    for _, sources, destinations in rows:
        *outside, inner = zip(sources.split(","), destinations.split(","), strict=True)
        inward = inner[1] == str(PLAN.home_address)
        assert set(inner) == {str(PLAN.home_address), str(PLAN.cn)}
        assert {pair[not inward] for pair in outside} == {str(PLAN.home_agent)} or inward
        care_of = [IPv6Address(pair[1 if inward else 0]) for pair in outside]
        networks = [PLAN.visited_a.prefix, PLAN.visited_b.prefix]
        assert any(care_of[0] in network for network in networks), "header 353"
        assert care_of[1] in TRAIN_PREFIX, "header 352, or that of the inner router"
        assert care_of[2:] == [] or care_of[2] in CARRIAGE_PREFIX
    flags = dissect(capture, table, ["mip6.nemo.bu.r_flag", "mip6.nemo.mnp.mnp", "frame.protocols"], "mip6.mhtype == 5")
    assert Counter(row[0] for row in flags) >= Counter({"1": 2, "0": 2}), "of routers, and of the terminal"
    assert {row[1] for row in flags if row[1]} <= {str(CARRIAGE_PREFIX.network_address)}
    answers = dissect(capture, table, ["mip6.nemo.ba.r_flag"], "mip6.mhtype == 6")
    assert Counter(row[0] for row in answers) >= Counter({"1": 1, "0": 2})
    no_complaints(capture, table)
    assert set(scapy_reads(capture, table)) >= {"MIP6MH_BU", "MIP6MH_BA"}


def test_baresip_on_an_ordinary_host_of_the_train(tmp_path: Path) -> None:
    """Nothing of ours is on that host: its address is what the mobile router advertises, and stays."""

    async def test() -> None:
        async with AsyncExitStack() as stack:
            network = stack.enter_context(TestNetwork("test-baresip-nemo", extension=NEMO))
            nodes = MobilityNodes(network, "esp")
            routers = MobileRouters(nodes)
            stack.callback(routers.stop)
            stack.callback(nodes.stop)
            nodes.start("ha", "cn")
            routers.start()
            control = routers.runtime("mr1") / "control.sock"
            await bound(control)
            movements = await stack.enter_async_context(Movements.follow(control))
            phone = await stack.enter_async_context(PhoneProcess("correspondent", network.directory / "cn.log"))
            await registered(phone, CORRESPONDENT, nodes, "cn", codec="PCMU")
            seat = wait_for_seat(network.plan)
            answering = asyncio.create_task(phone.do("answer", timeout=30))
            plan = network.plan
            outbound = f';outbound="sip:[{plan.proxy}]:{plan.sip_port};transport=udp"'
            settings = write_baresip(tmp_path, network.account("6003"), outbound)
            with (tmp_path / "baresip.log").open("wb") as log:
                program = network.popen(
                    SEAT,
                    [
                        "baresip", "-6", "-f", str(settings), "-t", "30",
                        "-e", f"/dial sip:{CORRESPONDENT}@{plan.sip_domain}",
                    ],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            stack.callback(program.wait, 10)
            stack.callback(program.terminate)
            answered = await answering
            assert answered["sdp_connection"] == str(seat)
            speech = speak("en-us+f3", TALK + 2, tmp_path / "correspondent.wav")
            await phone.do("talk", play=str(speech), record=str(tmp_path / "heard.wav"))
            for place in ("visited-b", "visited-a"):
                await asyncio.sleep(TALK / 3)
                moved = cables.move(network.plan, TRAINS_CABLE, place)
                await movements.after(moved.cut, "HandoverFinished")
            await asyncio.sleep(TALK / 3)
            heard = await phone.do("statistics")
            await phone.do("hangup")
            numbers = [number for _, number in heard["arrivals"]]
            assert len(numbers) > 150
            assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1)), "lost, or twice"
            assert seat_address(network.plan) == seat

    asyncio.run(test())
