"""Where the password of an account comes from. It is read when it is needed, and stands in no log, repr or error."""

from __future__ import annotations

import importlib
import os
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from softphone.errors import ConfigError

COMMAND_SECONDS = 60.0
"A command may ask a person for something, once."
LONGEST = 4096
"Bytes of a password."
SERVICE = "roamphone"
"Name of the service in the keyring."
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PasswordSource(Protocol):
    """Raises ConfigError when there is no password, with what to do about it."""

    def read(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PlainPassword:
    """It stands in the configuration itself, which then has to be closed to others (checked when it is loaded)."""

    text: str = field(repr=False)

    def read(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class FilePassword:
    """The first line of a file that only its owner can read."""

    path: Path

    def read(self) -> str:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for ever
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(file.fileno())
                if found.st_mode & OTHERS:
                    raise ConfigError(f"{self.path} can be read by others: chmod 600 {self.path}")
                if not stat.S_ISREG(found.st_mode):
                    raise ConfigError(f"{self.path} is not a file: name one that contains the password")
                return _first_line(file.read(LONGEST + 1), str(self.path))
        except OSError as exc:
            raise ConfigError(f"the password file {self.path} cannot be read: {exc.strerror}") from None

    def write(self, password: str) -> None:
        """Put a password there, mode 0600. Raises ConfigError."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)  # what is open elsewhere, or a link, is not followed
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{password}\n")
        except OSError as exc:
            raise ConfigError(f"the password file {self.path} cannot be written: {exc.strerror}") from None


@dataclass(frozen=True, slots=True)
class EnvironmentPassword:
    """A variable of the environment."""

    variable: str

    def read(self) -> str:
        if not (password := os.environ.get(self.variable)):
            raise ConfigError(f"the variable {self.variable}, which has the password, is not set: set and export it")
        return password


@dataclass(frozen=True, slots=True)
class CommandPassword:
    """The first line that a command prints, such as ``pass show sip/alice``. No shell is between."""

    arguments: tuple[str, ...] = field(repr=False)

    def read(self) -> str:
        program = self.arguments[0]
        try:
            done = subprocess.run(
                self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False
            )
        except OSError as exc:
            raise ConfigError(f"password_command: {program} cannot be run: {exc.strerror}") from None
        except subprocess.TimeoutExpired:
            raise ConfigError(f"password_command: {program} took more than {COMMAND_SECONDS:.0f} s") from None
        if done.returncode:
            raise ConfigError(f"password_command: {program} failed with status {done.returncode}")
        return _first_line(done.stdout, f"password_command: {program}")


@dataclass(frozen=True, slots=True)
class KeyringPassword:
    """In the keyring of the desktop, by the library keyring (``pip install roamphone[keyring]``)."""

    user: str

    def read(self) -> str:
        password = self._ask("get_password", SERVICE, self.user)
        if not isinstance(password, str):
            raise ConfigError(
                f"the keyring has no password of {self.user}: keyring set {SERVICE} {self.user}, "
                "or softphone accounts add"
            )
        return password

    def write(self, password: str) -> None:
        """Raises ConfigError."""
        self._ask("set_password", SERVICE, self.user, password)

    def delete(self) -> None:
        """Forget it. Raises ConfigError, also when there is none."""
        self._ask("delete_password", SERVICE, self.user)

    @staticmethod
    def _ask(what: str, *arguments: str) -> object:
        try:
            keyring = importlib.import_module("keyring")
        except ImportError:
            raise ConfigError("the keyring needs a library: pip install 'roamphone[keyring]'") from None
        try:
            return getattr(keyring, what)(*arguments)
        except Exception as exc:  # back ends raise errors of their own, whose texts may repeat what they were given
            raise ConfigError(
                f"the keyring cannot be used ({type(exc).__name__}): is it there, and unlocked?"
            ) from None


def keep_password(password: str, path: Path, name: str, user: str) -> dict[str, object]:
    """Put a password that was typed in into the keyring where there is one, else into a file beside ``path``.

    Returns the key of the account that says where it is. Raises ConfigError.
    """
    if keyring_works():
        key = f"{name}/{user}"
        with suppress(ConfigError):
            KeyringPassword(key).write(password)
            return {"password_keyring": key}
    file = path.parent / f"{name}.password"
    FilePassword(file).write(password)
    return {"password_file": file.name}


def keyring_works() -> bool:
    """Whether there is a keyring that could keep a password."""
    try:
        backend = importlib.import_module("keyring").get_keyring()
        return bool(backend.priority > 0)
    except Exception:
        return False


def check_private(path: Path) -> None:
    """Raises ConfigError when a file that holds a password is open to others."""
    if path.stat().st_mode & OTHERS:
        raise ConfigError(f"{path} holds a password and can be read by others: chmod 600 {path}, or use password_file")


def _first_line(data: bytes, where: str) -> str:
    line = data.partition(b"\n")[0].rstrip(b"\r")
    try:
        password = line.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: the password is not UTF-8") from None
    if not password or len(data) > LONGEST:
        raise ConfigError(f"{where}: the first line has to be the password; it is empty, or what comes is too long")
    return password
