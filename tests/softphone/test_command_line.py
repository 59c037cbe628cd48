"""The command lines as a whole: quick without media, complete in three shells, and manual pages without warnings."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from mobility.cli import parser as mobility_parser
from mobility.commandline import manual
from mobility.commandline.completion import SHELLS, script
from mobility.commandline.description import Command, Value, describe
from softphone.accounts.accounts import Network
from softphone.accounts.trial import TRIAL_SECONDS
from softphone.cli import main
from softphone.commands import parser as command_line
from softphone.commands.parser import Later, parser
from softphone.sip.transport import Transport

SLOW = ("aiortc", "av", "numpy", "cryptography", "OpenSSL", "aioice", "pylibsrtp", "tomlkit", "textual")
"Take a second together."
PROGRAMS = {"softphone": parser, "mobility": mobility_parser}


@pytest.mark.parametrize(
    "words", ["--help", "dial --help", "ctl --help", "history", "contacts list", "completion bash", "accounts add -h"]
)
def test_what_needs_no_media_imports_none(words: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom softphone.cli import main\n"
        "try:\n    main(sys.argv[2:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(' '.join(name for name in sys.argv[1].split() if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, " ".join((*SLOW, "softphone.phone")), *words.split()],
        env={"XDG_DATA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def commands_of(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [whole]
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += commands_of(inner)
    return found


def test_the_work_of_every_command_is_where_the_command_line_says() -> None:
    works = [one.get_default("run") for one in commands_of(parser())]
    places = [work for work in works if isinstance(work, Later)]
    assert len(places) > 8
    for place in places:
        assert callable(place.work()), place.place


def test_words_that_the_command_line_repeats() -> None:
    """It cannot import where they come from."""
    assert command_line.TRANSPORTS == tuple(map(str, Transport))
    assert command_line.NETWORKS == tuple(map(str, Network))
    assert command_line.TRIAL_SECONDS == TRIAL_SECONDS


def test_a_description() -> None:
    whole = describe(parser())
    named = {one.name: one for one in whole.everything()}
    dial = named["softphone dial"]
    assert dial.help == "call somebody; play, record, send digits"
    options = {option.names[-1]: option for option in dial.options}
    assert options["--anonymous"].value is Value.NONE
    assert options["--trace"].value is Value.FILE
    assert options["--account"].value is Value.OTHER
    adding = {option.names[-1]: option for option in named["softphone accounts add"].options}
    assert adding["--transport"].choices == ("udp", "tcp", "tls", "ws", "wss")
    assert [place.metavar for place in dial.places] == ["TARGET"]


def written(tmp_path: Path, shell: str, program: str = "softphone") -> Path:
    file = tmp_path / f"{program}.{shell}"
    file.write_text(script(describe(PROGRAMS[program]()), shell))
    return file


def offered(shell: str, file: Path, line: str) -> list[str]:
    """What a shell offers for the last word of the line."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    match shell:
        case "bash":
            asking = (
                f"compopt() {{ :; }}; source {file}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
                f"_{words[0]}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
            )
            command = ["bash", "--norc", "-c", asking]
        case "zsh":
            # What zsh's own completion brings along prints here.
            asking = (
                "compdef() { : }; _files() { print -l *(N) }; compadd() { shift; print -l -- $@ }\n"
                f"_describe() {{ print -l -- ${{(P)@[-1]}} }}; source {file}\n"
                f"words=({quoted}); CURRENT={len(words)}; _{words[0]}"
            )
            command = ["zsh", "-f", "-c", asking]
        case _:
            command = ["fish", "--no-config", "-c", f"source {file}; complete -C {quoted_for_fish(line)}"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=30, check=False)
    assert not done.stderr, done.stderr
    found = [one.partition("\t")[0].partition(":")[0] for one in done.stdout.splitlines()]
    return [one for one in found if one and one.startswith(words[-1])]


def quoted_for_fish(text: str) -> str:
    return f"'{text}'"


CASES = (
    ("softphone di", {"dial"}),
    ("softphone accounts ", {"list", "add", "test", "remove"}),
    ("softphone dial --no", {"--no-history"}),
    ("softphone accounts add --transport t", {"tcp", "tls"}),
    ("softphone accounts add --transport tls --keep", {"--keep"}),
    ("softphone ctl --socket status rej", {"reject"}),  # what follows --socket is no command
    ("softphone dial --account ", set[str]()),
    ("softphone completion z", {"zsh"}),
    ("softphone contacts import a", {"a card.vcf"}),
    ("softphone dial --trace a", {"a card.vcf"}),
    ("mobility scenario en", {"enable"}),
)


def check_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "a card.vcf").touch()
    files = {program: written(tmp_path, shell, program) for program in PROGRAMS}
    for line, wanted in CASES:
        found = offered(shell, files[line.partition(" ")[0]], line)
        if shell == "fish":
            found = [one.replace("\\ ", " ") for one in found]
        assert wanted <= set(found), line
        assert len(found) == len(wanted) or line.endswith(" "), line
    assert not [one for one in offered(shell, files["softphone"], "softphone dial --account ") if "-" not in one]


def test_completion_in_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_shell("bash", tmp_path)
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == (tmp_path / "softphone.bash").read_text()


@pytest.mark.interop
def test_completion_in_zsh_and_fish(tmp_path: Path) -> None:
    for shell in SHELLS[1:]:
        check_shell(shell, tmp_path)


def pages(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "softphone.1", tmp_path / "mobility.1"]
    for place, file in zip(("softphone.commands.parser:parser", "mobility.cli:parser"), found, strict=True):
        assert manual.main([place, str(file)]) == 0
    return found


def test_manual_pages_name_everything(tmp_path: Path) -> None:
    for page, make in zip(pages(tmp_path), PROGRAMS.values(), strict=True):
        text = page.read_text()
        whole: Command = describe(make())
        for command in list(whole.everything())[1:]:
            assert f".SS {' '.join(command.path[1:])}".replace("-", "\\-") in text
            for option in command.options[1:]:  # --help says what is said here
                assert option.names[-1].replace("-", "\\-") in text


@pytest.mark.interop
def test_manual_pages_have_no_warnings(tmp_path: Path) -> None:
    for page in pages(tmp_path):
        done = subprocess.run(
            ["man", "--warnings", "-l", str(page)], capture_output=True, text=True, timeout=60, check=False,
            env={"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "SYNOPSIS" in done.stdout
