"""The plugin: fixtures ``sip_server``, ``sip_proxy``, ``standing_sip_network`` and ``sip_network``, tests that are
coroutines, and what remains of a test that failed.

pytest loads this file in every run on a machine that has roamphone: what costs time is imported by who needs it.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from roamphone_pytest.mobile import SipNetwork, StandingNetwork
    from roamphone_pytest.recorder import Recorder
    from roamphone_pytest.server import SipProxy, SipServer

Made = TypeVar("Made")
OTHER_RUNNERS = ("asyncio", "anyio", "trio")
"Markers of plugins that run coroutines themselves."
LONGEST_NAME = 120
"Characters of a file's name."
_recorder = pytest.StashKey["Recorder"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("sip_traces", "directory for the captures of tests that failed", default="sip-traces")
    parser.addini("sip_tunnel", "form of the mobile tunnel of sip_network: plain, esp-mobile, esp", default="esp")


@pytest.fixture(scope="session")
def sip_server() -> Iterator[SipServer]:
    """A Kamailio on loopback (no root): registrar and proxy of home.test for alice, bob, carol and dave."""
    from roamphone_pytest.server import running_server

    yield from _made(running_server())


@pytest.fixture
def sip_proxy(sip_server: SipServer, sip_recorder: Recorder) -> SipProxy:
    """`sip_server` for one test: nobody is registered, and what its phones send is recorded."""
    from roamphone_pytest.server import SipProxy

    sip_server.forget()
    return SipProxy(sip_server, sip_recorder)


@pytest.fixture(scope="session")
def standing_sip_network(pytestconfig: pytest.Config) -> Iterator[StandingNetwork]:
    """A home network with a home agent and Kamailio, visited networks, a terminal that is away from home (root)."""
    from roamphone_pytest.mobile import standing_network

    yield from _made(standing_network(pytestconfig.getini("sip_tunnel")))


@pytest.fixture
def sip_network(standing_sip_network: StandingNetwork, sip_recorder: Recorder) -> SipNetwork:
    """`standing_sip_network` for one test: the terminal is in ``visited-a``, nobody is registered."""
    from roamphone_pytest.mobile import SipNetwork

    standing_sip_network.reset()
    return SipNetwork(standing_sip_network, sip_recorder)


@pytest.fixture
def sip_recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorder]:
    """Records the phones of a test. Its file is kept when the test fails."""
    from roamphone_pytest.recorder import Recorder

    recorder = Recorder(tmp_path / "sip.pcapng")
    request.node.stash[_recorder] = recorder
    yield recorder
    recorder.close()
    recorder.path.unlink(missing_ok=True)


def _made(maker: AbstractContextManager[Made]) -> Iterator[Made]:
    """A fixture out of a context manager: where it cannot be entered, pytest says why without a traceback."""
    from roamphone_pytest.needs import Missing
    from sip_test_env.errors import EnvironmentFailure

    try:
        made = maker.__enter__()
    except (Missing, EnvironmentFailure) as exc:
        pytest.fail(str(exc), pytrace=False)
    try:
        yield made
    finally:
        maker.__exit__(None, None, None)


@pytest.hookimpl
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A coroutine with a `Stage` among its arguments (``sip_proxy``, or one of your own) runs in a loop of its own."""
    if (
        not inspect.iscoroutinefunction(pyfuncitem.obj)
        or not _has_stage(pyfuncitem)
        or any(pyfuncitem.get_closest_marker(name) for name in OTHER_RUNNERS)
    ):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def _has_stage(test: pytest.Function) -> bool:
    stage = sys.modules.get("roamphone_pytest.stage")  # who has made one has imported it
    return stage is not None and any(isinstance(value, stage.Stage) for value in test.funcargs.values())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Who reads of the failure finds the flows of all calls, and the name of the capture."""
    report = yield
    recorder = item.stash.get(_recorder, None)
    if report.when == "call" and report.failed and recorder is not None and not recorder.empty:
        recorder.close()
        directory = item.config.rootpath / str(item.config.getini("sip_traces"))
        directory.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.nodeid).strip("-")[-LONGEST_NAME:]
        kept = directory / f"{name}.pcapng"
        kept.unlink(missing_ok=True)
        kept.touch(mode=0o600)
        kept.write_bytes(recorder.path.read_bytes())
        report.sections.append(("SIP", f"{recorder.ladders()}\n\nfor Wireshark: {kept}\n"))
    return report
