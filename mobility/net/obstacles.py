"""Why the system does not let an ordinary user have a host OS, and what to do about it.

The kernel says only EPERM or ENOSPC. What is behind it stands in /proc/sys and in the mode of a device file.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

SETTINGS = Path("/proc/sys")
"Where the kernel shows its settings; tests look elsewhere."
DIRECT_MODE = (
    "Until then the phone works in its direct mode: access to the network without mobility needs none of this."
)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that is in the way."""

    what: str
    "One line."
    remedy: str
    "What an administrator does about it; one or more lines."

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}"


class Forbidden(OSError):
    """The system does not allow what a host OS needs; the text says what exactly, and the remedy."""

    def __init__(self, number: int | None, obstacle: Obstacle) -> None:
        super().__init__(number, obstacle.what)
        self.obstacle = obstacle

    def __str__(self) -> str:
        return f"{self.obstacle}\n{DIRECT_MODE}"


def forbidden_namespace(error: OSError, settings: Path = SETTINGS) -> Obstacle:
    """What made an ordinary user's ``unshare(CLONE_NEWUSER | CLONE_NEWNET)`` or its uid_map fail with this error."""
    for kind in ("user", "net"):
        if setting(settings / f"user/max_{kind}_namespaces") == 0:
            return Obstacle(
                f"this system allows no {kind} namespaces (user.max_{kind}_namespaces = 0)",
                _set_for_good(f"user.max_{kind}_namespaces", 15000),
            )
    if setting(settings / "kernel/unprivileged_userns_clone") == 0:
        return Obstacle(
            "only root may make user namespaces (kernel.unprivileged_userns_clone = 0)",
            _set_for_good("kernel.unprivileged_userns_clone", 1),
        )
    if setting(settings / "kernel/apparmor_restrict_unprivileged_userns") == 1:
        return Obstacle(
            "AppArmor bars ordinary users from user namespaces (kernel.apparmor_restrict_unprivileged_userns = 1)",
            apparmor_remedy(),
        )
    if error.errno == errno.ENOSPC:
        return Obstacle(
            "there are as many user or network namespaces as this system allows, or they are nested too deeply",
            "As root: raise user.max_user_namespaces and user.max_net_namespaces (sysctl), or end what holds them.",
        )
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return Obstacle(
            "this kernel has no user namespaces (CONFIG_USER_NS)",
            "Use a kernel with them, or run the terminal as root.",
        )
    return Obstacle(
        f"this system does not let you make a user namespace ({error.strerror})",
        "No setting of the kernel forbids it: probably a container or a security\n"
        "module does (seccomp, SELinux, chroot). Run the terminal outside of the\n"
        "container, give it CAP_SYS_ADMIN and CAP_NET_ADMIN, or allow it the system\n"
        "calls unshare, setns and mount (--security-opt seccomp=unconfined).",
    )


def forbidden_tun(path: str, error: OSError) -> Obstacle:
    """What made opening the TUN device, or making an interface with it, fail with this error."""
    match error.errno:
        case errno.ENOENT:
            return Obstacle(
                f"there is no TUN device {path}",
                "As root: modprobe tun\n"
                "If it is still missing then: mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200\n"
                "In a container: start it with --device /dev/net/tun",
            )
        case errno.ENODEV | errno.ENXIO:
            return Obstacle(
                f"nothing is behind the TUN device {path}: the module tun is not loaded",
                "As root: modprobe tun && echo tun > /etc/modules-load.d/roamphone.conf",
            )
        case errno.EACCES | errno.EPERM if _mode_bars(path):
            return Obstacle(
                f"you may not use the TUN device {path}",
                f"As root: chmod 0666 {path}\n"
                "For good, this line in /etc/udev/rules.d/90-roamphone.rules:\n"
                '    KERNEL=="tun", MODE="0666"\n'
                "(Most systems have 0666: making an interface takes more than opening this.)",
            )
        case errno.EACCES | errno.EPERM:
            return Obstacle(
                f"the system does not let you use the TUN device {path} ({error.strerror})",
                "Its mode would allow it: probably a container forbids the device, or the\n"
                "file system is mounted nodev. Start the container with --device\n"
                "/dev/net/tun, or name another device with ROAMPHONE_TUN_DEVICE.",
            )
        case errno.EBUSY:
            return Obstacle(
                "an interface of this name is in use already",
                "End the mobility process that has it, or choose another name:\n"
                "host_os.interface, home_agent.interface or home_agent.ipv4_interface.",
            )
    return Obstacle(
        f"{path} does not make a TUN interface ({error.strerror})",
        "Check that it is the character device 10:200, or unset ROAMPHONE_TUN_DEVICE.",
    )


def apparmor_remedy(interpreter: str | None = None) -> str:
    """A profile that lets this Python make user namespaces. AppArmor knows programs by their real path."""
    program = os.path.realpath(sys.executable if interpreter is None else interpreter)
    return (
        "As root, write this into /etc/apparmor.d/roamphone:\n"
        "    abi <abi/4.0>,\n"
        "    include <tunables/global>\n"
        f"    profile roamphone {program} flags=(unconfined) {{\n"
        "      userns,\n"
        "    }\n"
        "then: apparmor_parser -r /etc/apparmor.d/roamphone\n"
        "It holds for every program that this Python runs; for roamphone alone,\n"
        "install it in an environment with its own Python (python3 -m venv --copies).\n"
        "For all programs: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )


def _set_for_good(name: str, value: int) -> str:
    return f"As root: sysctl -w {name}={value}\nFor good: echo '{name} = {value}' > /etc/sysctl.d/90-roamphone.conf"


def setting(path: Path) -> int | None:
    """A number of the kernel's; None: it has no such setting."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _mode_bars(path: str) -> bool:
    """Whether it is the permissions of the file that say no."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode) and not os.access(path, os.R_OK | os.W_OK)
    except OSError:
        return True
