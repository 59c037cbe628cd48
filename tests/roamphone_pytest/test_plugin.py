"""The pytest plugin, by pytest runs of its own that use it as somebody else's tests would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roamphone_pytest import needs
from sip_test_env.capture import dissect
from tests.docs.blocks import DOCS, blocks
from tests.ordinary import ordinary_user

CALLS = """
import asyncio
import pytest
from roamphone_pytest.assertions import assert_digits, assert_flow, assert_mos

BUSY = "INVITE [407 ACK INVITE] 100 [180] 486 ACK"


async def test_a_call(sip_proxy, tmp_path):
    async with sip_proxy.registered("alice", "bob") as (alice, bob):
        call, other = await sip_proxy.connect(alice, bob)
        await call.send_dtmf("12#")
        await assert_digits(other, "12#")
        with pytest.raises(AssertionError, match="came within 0.1 s, not '9'"):
            await assert_digits(other, "9", 0.1)
        await asyncio.sleep(1.5)
        for end in (call, other):
            assert_mos(end, 3.5)
        with pytest.raises(AssertionError, match="not 4.6"):
            assert_mos(call, 4.6)
        await call.hangup()
        await other.ended(5)
        assert_flow(sip_proxy.flow(alice), "INVITE [407 ACK INVITE] 100 180 200 ACK BYE [407 BYE] 200")
        assert_flow(sip_proxy.flow(bob, other), "INVITE [100] 180 200 ACK BYE 200")
        with pytest.raises(AssertionError, match="and not"):
            assert_flow(sip_proxy.flow(bob), BUSY)


async def test_nobody_is_left_of_the_test_before(sip_proxy):
    assert "bob" not in sip_proxy.server.rpc("ul.dump")


async def test_that_fails(sip_proxy):
    async with sip_proxy.registered("alice", "bob") as (alice, bob):
        bob.do_not_disturb = True
        call = await alice.dial("bob")
        await call.answered(5)


@pytest.mark.parametrize("what", ["a", "b"])
def test_that_is_no_coroutine(sip_server, what):
    assert sip_server.sip_port
"""


@pytest.mark.interop
def test_phones_at_a_server(pytester: pytest.Pytester) -> None:
    [documented] = (block.text for block in blocks(DOCS / "pytest.md") if block.language == "python")
    pytester.makepyfile(test_calls=CALLS, test_documented=documented)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=5, failed=1)
    done.stdout.fnmatch_lines(
        [
            "*CallRejected: call refused: 486*",
            "*- SIP -*",
            "sip:alice@home.test, call *",
            "*0.000 s --> ::1 * INVITE sip:bob@home.test*",
            "*486 Busy Here (INVITE)*",
            "for Wireshark: */sip-traces/test_calls.py-test_that_fails.pcapng",
        ]
    )
    [kept] = (pytester.path / "sip-traces").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    statuses = {status for [status] in dissect(kept, None, ["sip.Status-Code"], "sip.Status-Line")}
    assert {"200", "486"} <= statuses


def test_what_is_missing_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile("async def test_it(sip_proxy): pass")
    monkeypatch.setattr(needs, "ADMINISTRATION", ())
    monkeypatch.setenv("PATH", str(pytester.path))
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["kamailio, kamcmd, setpriv: not installed; apt-get install kamailio util-linux *"])
    assert "Traceback" not in done.stdout.str()


@pytest.mark.root
@pytest.mark.interop
def test_an_ordinary_user_has_a_server_and_hears_why_there_is_no_network() -> None:
    with ordinary_user() as user:
        test = Path(user.home) / "test_user.py"
        test.write_text("async def test_one(sip_proxy): pass\nasync def test_two(sip_network): pass\n")
        command = user.command(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(test))
        done = subprocess.run(command, cwd=user.home, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "need root: run pytest as root, for example with sudo" in done.stdout


def test_other_runs_of_pytest_pay_nothing_for_the_plugin() -> None:
    code = "import sys, roamphone_pytest.plugin; print([n for n in sys.modules if n.startswith(('softphone', 'av'))])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.stdout.strip() == "[]"
