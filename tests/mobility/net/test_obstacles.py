"""What is told where the system forbids: the reason that it is, with a remedy that fits."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mobility.net.capabilities import Capability, has
from mobility.net.obstacles import DIRECT_MODE, Forbidden, Obstacle, apparmor_remedy, forbidden_namespace, forbidden_tun


def settings(directory: Path, **values: int) -> Path:
    for name, value in values.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{value}\n")
    return directory


FINE = {"user__max_user_namespaces": 1000, "user__max_net_namespaces": 1000}


@pytest.mark.parametrize(
    ("values", "number", "what", "remedy"),
    [
        ({"user__max_user_namespaces": 0}, errno.ENOSPC, "user.max_user_namespaces = 0", "sysctl -w user.max_user_nam"),
        ({**FINE, "user__max_net_namespaces": 0}, errno.ENOSPC, "max_net_namespaces = 0", "sysctl -w user.max_net_nam"),
        ({**FINE, "kernel__unprivileged_userns_clone": 0}, errno.EPERM, "unprivileged_userns_clone = 0", "_clone=1"),
        (
            {**FINE, "kernel__unprivileged_userns_clone": 1, "kernel__apparmor_restrict_unprivileged_userns": 1},
            errno.EACCES, "apparmor_restrict_unprivileged_userns = 1", "userns,",
        ),
        (FINE, errno.ENOSPC, "as many user or network namespaces", "max_net_namespaces"),
        (FINE, errno.EINVAL, "CONFIG_USER_NS", "kernel"),
        (FINE, errno.EPERM, "does not let you make a user namespace", "seccomp"),
        ({}, errno.EPERM, "does not let you make a user namespace", "seccomp"),
    ],
)  # fmt: skip
def test_namespaces(values: dict[str, int], number: int, what: str, remedy: str, tmp_path: Path) -> None:
    obstacle = forbidden_namespace(OSError(number, os.strerror(number)), settings(tmp_path, **values))
    assert what in obstacle.what
    assert remedy in obstacle.remedy
    assert "\n" not in obstacle.what


def test_settings_that_make_no_sense_are_not_blamed(tmp_path: Path) -> None:
    directory = settings(tmp_path, user__max_user_namespaces=5)
    (directory / "user/max_user_namespaces").write_text("many")
    assert "seccomp" in forbidden_namespace(PermissionError(errno.EPERM, "no"), directory).remedy


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "modprobe tun"), (errno.ENODEV, "modprobe tun"), (errno.ENXIO, "modprobe tun"),
        (errno.EBUSY, "host_os.interface"), (errno.ENOTTY, "10:200"), (errno.EPERM, "chmod 0666"),
    ],
)  # fmt: skip
def test_the_tun_device(number: int, remedy: str, tmp_path: Path) -> None:
    assert remedy in forbidden_tun(str(tmp_path / "tun"), OSError(number, os.strerror(number))).remedy


def test_a_device_whose_mode_allows_it_is_forbidden_by_something_else() -> None:
    assert "a container forbids the device" in forbidden_tun("/dev/null", PermissionError(errno.EPERM, "no")).remedy


def test_the_profile_is_for_the_real_interpreter(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/usr/bin/env")
    assert f"profile roamphone {os.path.realpath('/usr/bin/env')} flags=(unconfined)" in apparmor_remedy(
        str(tmp_path / "python")
    )


def test_the_error_tells_reason_remedy_and_what_works_without() -> None:
    error = Forbidden(errno.EPERM, Obstacle("it is not allowed", "allow it"))
    assert str(error) == f"it is not allowed\nallow it\n{DIRECT_MODE}"
    assert error.errno == errno.EPERM
    assert isinstance(error, OSError)


def test_capabilities_are_read_from_the_kernel(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t0000000000003000\n")
    assert has(Capability.NET_ADMIN, Capability.NET_RAW, status=status)
    assert not has(Capability.NET_ADMIN, Capability.SYS_ADMIN, status=status)
    status.write_text("")
    assert not has(Capability.NET_RAW, status=status)
