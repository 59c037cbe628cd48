"""Section ``home_agent``: a thousand terminals on one home agent, a hundred of them in a call.

All register by UDP at once (``registration``: how many a second, as many under way at a time as `crowd.WINDOW`) and
again (``refresh``). Then ``calls`` of them talk for ``seconds``, 50 packets of 200 octets a second each way.
``processor_percent``: of one processor, the home agent's process alone; ``memory_mib``: its resident memory, with no
terminal bound and at the end; ``latency_ms``: from the sender's system call to the receiver's kernel, over all the
routers between, ``out``: from the terminals. Loss and latency also show what the other processor had to do: the crowd
is on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from bench.laboratory import data_plane
from bench.processor import percent, processor_seconds, windows
from bench.statistics import measured
from mobility.client import wait_ready
from mobility.ipsec.algorithms import Algorithm
from sip_test_env.network import TestNetwork
from sip_test_env.plan import INTERFACE, Plan

TERMINALS = 1000
CALLS = 100
SECONDS = 15.0
WINDOWS = 5
_KEY = Algorithm.AES_GCM_16.key_lengths[0]


def measure() -> dict[str, object]:
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork("bench-agent") as network:
        return _measure(network)


def _measure(network: TestNetwork) -> dict[str, object]:
    plan = network.plan
    folder = network.directory / "agent"
    folder.mkdir(mode=0o700)
    members = [_member(plan, number) for number in range(TERMINALS)]
    configuration = _secret(folder / "ha.toml", _configuration(plan, folder, members))
    specification = _secret(folder / "crowd.json", json.dumps(_specification(plan, members)))
    with (folder / "log").open("wb") as log:
        began = time.monotonic()
        agent = network.popen(
            "ha", [sys.executable, "-m", "mobility", "ha", "--config", str(configuration)], stdout=log, stderr=log
        )
        wait_ready(folder, timeout=60)
        start = time.monotonic() - began
    with subprocess.Popen(
        [sys.executable, "-m", "bench.crowd", str(specification)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as crowd:
        try:
            _answer(crowd)
            pid = asyncio.run(data_plane(folder))
            memory = {"unbound": _resident(pid)}
            registration = _timed(crowd, agent.pid, {"register": 1})
            refresh = _timed(crowd, agent.pid, {"register": 2})
            _ask(crowd, {"talk": SECONDS})
            _answer(crowd)  # the counted part begins
            shares = percent(windows(agent.pid, SECONDS - 0.5, WINDOWS))
            lasted = _answer(crowd)["seconds"]
            talk = _answer(crowd)
            memory["bound"] = _resident(pid)
        finally:
            crowd.kill()
    return {
        "terminals": TERMINALS,
        "calls": CALLS,
        "seconds": SECONDS,
        "start_seconds": round(start, 2),
        "registration": registration,
        "refresh": refresh,
        **measured("processor_percent", shares, 1),
        "packets_per_second": round((talk["out"]["sent"] + talk["in"]["sent"]) / lasted),
        "memory_mib": memory,
        "lost": talk["out"]["lost"] + talk["in"]["lost"],
        "talk": talk,
    }


Key = tuple[int, str]
Member = tuple[IPv6Address, list[Key]]


def _member(plan: Plan, number: int) -> Member:
    """Home address; keys for signalling and tunnel, from the terminal and to it."""
    home = plan.home.prefix[0x10000 + number]
    return home, [(0x10000 + 4 * number + use, secrets.token_hex(_KEY)) for use in range(4)]


def _configuration(plan: Plan, folder: Path, members: list[Member]) -> str:
    parts = [
        f'[node]\nrole = "ha"\nruntime = "{folder}"\nstate = "{folder / "state"}"\n\n'
        f'[home_agent]\naddress = "{plan.home_agent}/64"\ninterface = "{INTERFACE}"\nudp = ["{plan.home_agent4}"]\n\n'
    ]
    for home, (update, answer, up, down) in members:
        parts.append(f'[[home_agent.terminal]]\nhome_address = "{home}"\n\n')
        for use, outbound, inbound in (("signalling", answer, update), ("tunnel", down, up)):
            parts.append(
                f'[[association]]\nuse = "{use}"\npeer = "{home}"\nkeys = "session"\n'
                f"outbound = {_association(outbound)}\ninbound = {_association(inbound)}\n\n"
            )
    return "".join(parts)


def _association(key: Key) -> str:
    return f'{{ spi = {key[0]:#x}, algorithm = "{Algorithm.AES_GCM_16.value}", encryption = "{key[1]}" }}'


def _specification(plan: Plan, members: list[Member]) -> dict[str, object]:
    return {
        "home_agent": str(plan.home_agent),
        "home_agent4": str(plan.home_agent4),
        "correspondent": str(plan.proxy),
        "terminals_at": [plan.namespace("core"), str(plan.home_backbone4[1])],
        "correspondents_at": plan.namespace("proxy"),
        "members": [(str(home), keys) for home, keys in members],
        "calls": CALLS,
    }


def _secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _resident(pid: int) -> float:
    """MiB of resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"the home agent's process {pid} has gone")


def _ask(crowd: subprocess.Popen[str], order: dict[str, object]) -> None:
    if crowd.stdin is None:
        raise RuntimeError("the crowd has no input")
    crowd.stdin.write(json.dumps(order) + "\n")
    crowd.stdin.flush()


def _answer(crowd: subprocess.Popen[str]) -> dict[str, Any]:
    line = "" if crowd.stdout is None else crowd.stdout.readline()
    if not line:
        raise RuntimeError("the crowd has gone; it says why above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _timed(crowd: subprocess.Popen[str], agent: int, order: dict[str, object]) -> dict[str, object]:
    """Has the crowd do something; adds what it cost the home agent."""
    before = processor_seconds(agent)
    _ask(crowd, order)
    answer = _answer(crowd)
    answer["processor_seconds"] = round(processor_seconds(agent) - before, 2)
    return answer
