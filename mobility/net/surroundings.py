"""What a program in the host OS sees around it: the resolver and the interfaces of the home network, no others.

A network namespace alone does not do it: ``/etc/resolv.conf`` names servers of the network outside, resolver daemons
are reached by Unix sockets, and ``/sys/class/net`` shows the namespace that it was mounted in. So the program gets a
mount namespace, in which these are replaced.
"""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobility.net.namespace import CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE, call

log = logging.getLogger(__name__)

PR_SET_NO_NEW_PRIVS = 38
RESOLVERS = ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon")
"Directories of sockets by which programs ask somebody who asks the network outside."
RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
SYS = "/sys"


def enter(dns: Sequence[str], hosts: Mapping[str, str] | None = None) -> None:
    """This process moves to a mount namespace of its own, with the surroundings of the host OS, for good.

    It has to be in the network namespace (and user namespace) of the host OS already. ``hosts``: names with their
    addresses, beside those of ``/etc/hosts``. Raises OSError where name resolution would go past the home network; what
    else cannot be had is left as it is and logged.
    """
    call("unshare", CLONE_NEWNS)
    # What is mounted outside later (a memory stick) appears inside; nothing from here goes out.
    call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    target = Path(os.path.realpath(RESOLV_CONF))  # before it is hidden
    hidden = _hide_resolvers()
    _replace_resolv_conf(target, resolv_conf(dns), hidden)
    if hosts:
        target = Path(os.path.realpath(HOSTS))
        before = target.read_text(errors="surrogateescape") if target.exists() else ""
        _put_in_place(target, before.rstrip("\n") + "\n" + hosts_lines(hosts), HOSTS)
    try:
        _own_sysfs()
    except OSError as error:
        log.debug("programs see the interfaces outside in /sys/class/net: %s", error)


def no_new_privileges() -> None:
    """No program that this process starts gets more than it has (set-user-id bits and file capabilities count nothing).

    Without this, one that does could be led by the replaced files. See prctl(2).
    """
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    call("prctl", PR_SET_NO_NEW_PRIVS, one, zero, zero, zero)


def resolv_conf(dns: Sequence[str]) -> str:
    """The text of resolv.conf(5). A query that a handover swallows is asked again soon."""
    head = "# Written by `mobility exec`: the servers of host_os.dns, asked through the home network.\n"
    if not dns:
        return head + "# None is configured, so only what stands in /etc/hosts has an address.\nnameserver ::1\n"
    return head + "".join(f"nameserver {server}\n" for server in dns) + "options timeout:2 attempts:4\n"


def _hide_resolvers() -> list[Path]:
    """Puts an empty directory in the place of each; programs then ask the servers themselves."""
    hidden: list[Path] = []
    for name in RESOLVERS:
        path = Path(os.path.realpath(name))
        if path.is_dir() and path not in hidden:
            call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=64k,mode=755")
            hidden.append(path)
    return hidden


def _replace_resolv_conf(target: Path, text: str, hidden: Sequence[Path]) -> None:
    if any(target.is_relative_to(directory) for directory in hidden):
        target.write_text(text)  # into the empty directory, which is ours
        target.chmod(0o644)
        return
    _put_in_place(target, text, RESOLV_CONF)


def hosts_lines(hosts: Mapping[str, str]) -> str:
    """Lines of hosts(5)."""
    return "# Servers behind a gateway.\n" + "".join(f"{address} {name}\n" for name, address in hosts.items())


def _put_in_place(target: Path, text: str, whose: Path) -> None:
    """Mounts a file with this text over another."""
    if not target.exists():
        raise FileNotFoundError(
            f"{whose} leads to nothing, so programs would ask whoever listens on this machine: as root, make"
            f" {target} (it may be empty)"
        )
    descriptor, name = tempfile.mkstemp(prefix=f"roamphone-{whose.name}-")
    try:
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, text.encode(errors="surrogateescape"))
        call("mount", os.fsencode(name), os.fsencode(target), None, MS_BIND, None)
    finally:
        os.close(descriptor)
        os.unlink(name)  # the mount keeps it


def _own_sysfs() -> None:
    """A /sys of this network namespace, with the file systems that were mounted below the old one (cgroups...)."""
    below = [Path(path) for path in _mounted_below(SYS)]
    held = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in below]
    try:
        call("mount", b"sysfs", SYS.encode(), b"sysfs", 0, None)
        for path, descriptor in held:
            try:
                call("mount", f"/proc/self/fd/{descriptor}".encode(), os.fsencode(path), None, MS_BIND | MS_REC, None)
            except OSError as error:
                log.debug("%s is empty for programs in the host OS: %s", path, error)
    finally:
        for _, descriptor in held:
            os.close(descriptor)


def _mounted_below(root: str) -> list[str]:
    """Where file systems are mounted below ``root``, without those that lie below another of them."""
    found: list[str] = []
    for line in Path("/proc/thread-self/mountinfo").read_text().splitlines():
        # Octal escapes (proc(5)): \040 is a space.
        point = line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        if point.startswith(root + "/") and not any(point.startswith(upper + "/") or point == upper for upper in found):
            found.append(point)
    return found
