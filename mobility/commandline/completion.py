"""Scripts that let shells complete the words of a command.

Each finds the command that the cursor is in by the words before it, skipping what belongs to options, and then offers
the commands inside it, its options, and the values that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mobility.commandline.description import Command, Option, Value

SHELLS = ("bash", "zsh", "fish")


def script(command: Command, shell: str) -> str:
    """For one of `SHELLS`. Raises KeyError."""
    make: dict[str, Callable[[Command], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return make[shell](command)


def _function(command: Command) -> str:
    return "_" + re.sub(r"\W", "_", command.path[0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _inner(command: Command) -> list[str]:
    """Names of all commands but the program itself."""
    return [one.name for one in command.everything()][1:]


def _valued(command: Command) -> Iterator[tuple[str, Option]]:
    """``softphone dial:--trace``, for every option that something follows."""
    for one in command.everything():
        for option in one.options:
            if option.value is not Value.NONE:
                for name in option.names:
                    yield f"{one.name}:{name}", option


def _values(command: Command, files: str, words: Callable[[tuple[str, ...]], str]) -> Iterator[str]:
    """Branches for the places behind options: what the shell does to offer files, or these words."""
    alike: dict[tuple[Value, tuple[str, ...]], list[str]] = {}
    for key, option in _valued(command):
        alike.setdefault((option.value, option.choices), []).append(key)
    for (value, choices), keys in alike.items():
        todo = {Value.FILE: files, Value.CHOICE: words(choices)}.get(value, ":")
        yield f"        {_either(keys)}) {todo}; return ;;"


def _words(command: Command) -> list[str]:
    """What may stand in the place of the next word, as far as it is known."""
    inside = [one.path[-1] for one in command.commands]
    choices = [choice for place in command.places for choice in place.choices]
    return [*inside, *choices, *(name for option in command.options for name in option.names)]


def _wants_files(command: Command) -> bool:
    return any(place.value is Value.FILE for place in command.places)


def _either(keys: list[str]) -> str:
    return " | ".join(map(_quoted, keys))


_WALK = """\
    while (( i < {last} )); do
        word=${{{words}[i]}}
        case "$place:$word" in
            {valued}) (( i += 2 )); continue ;;
        esac
        case "$place $word" in
            {inner}) place="$place $word" ;;
        esac
        (( i += 1 ))
    done
"""


def _walk(command: Command, words: str, last: str) -> str:
    valued = [key for key, _ in _valued(command)]
    return _WALK.format(words=words, last=last, valued=_either(valued) or "''", inner=_either(_inner(command)) or "''")


def _bash(command: Command) -> str:
    function = _function(command)
    lines = [
        f"# Completion of {command.path[0]} for bash: source it, or put it into",
        f"# ~/.local/share/bash-completion/completions/{command.path[0]}", f"{function}() {{",
        '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}', "    local place word i=1 found",
        f"    place={command.path[0]}", "    COMPREPLY=()", _walk(command, "COMP_WORDS", "COMP_CWORD").rstrip(),
        '    case "$place:$prev" in',
    ]  # fmt: skip
    lines += _values(
        command, 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
        lambda choices: f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(choices)}" -- "$cur")',
    )  # fmt: skip
    lines += ["    esac", '    case "$place" in']
    for one in command.everything():
        lines.append(f"        {_quoted(one.name)}) found={_quoted(' '.join(_words(one)))} ;;")
    lines += ["    esac", '    mapfile -t COMPREPLY < <(compgen -W "$found" -- "$cur")']
    if files := [one.name for one in command.everything() if _wants_files(one)]:
        lines += [
            '    case "$place" in',
            f'        {_either(files)}) compopt -o filenames; mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY '
            '< <(compgen -f -- "$cur") ;;',
            "    esac",
        ]
    return "\n".join([*lines, "}", f"complete -F {function} {command.path[0]}", ""])


def _zsh(command: Command) -> str:
    function = _function(command)
    lines = [
        f"#compdef {command.path[0]}", f"# Completion of {command.path[0]} for zsh: source it, or put it as",
        f"# _{command.path[0]} into a directory of $fpath", f"{function}() {{",
        "    local place word prev=${words[CURRENT-1]}", "    integer i=2", "    local -a inside options",
        f"    place={command.path[0]}", _walk(command, "words", "CURRENT").rstrip(), '    case "$place:$prev" in',
    ]  # fmt: skip
    lines += _values(command, "_files", lambda choices: f"compadd -- {' '.join(map(_quoted, choices))}")
    lines += ["    esac", '    case "$place" in']
    for one in command.everything():
        inside = [_described(inner.path[-1], inner.help) for inner in one.commands]
        inside += [_described(choice, "") for place in one.places for choice in place.choices]
        options = [_described(name, option.help) for option in one.options for name in option.names]
        files = " _files;" if _wants_files(one) else ""
        lines.append(
            f"        {_quoted(one.name)})\n            inside=({' '.join(inside)})\n"
            f"            options=({' '.join(options)});{files} ;;"
        )
    lines += [
        "    esac", "    (( $#inside )) && _describe command inside", "    _describe -o option options", "}",
        f'if [[ "$funcstack[1]" == {function} ]]; then {function} "$@"; else compdef {function} {command.path[0]}; fi',
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _described(word: str, text: str) -> str:
    return _quoted(f"{word}:{text}".replace(":", "\\:").replace("\\:", ":", 1) if text else word)


def _fish(command: Command) -> str:
    program, where = command.path[0], f"_{_function(command)}_place"
    lines = [
        f"# Completion of {program} for fish: put it into ~/.config/fish/completions/{program}.fish",
        f"function {where}", f"    set -l place {program}", "    set -l skip no",
        "    for word in (commandline -opc)[2..-1]", "        if test $skip = yes", "            set skip no",
        "            continue", "        end", '        switch "$place:$word"',
        f"            case {' '.join(_fish_quoted(key) for key, _ in _valued(command)) or _quoted('')}",
        "                set skip yes", "        end", '        switch "$place $word"',
        f"            case {' '.join(map(_fish_quoted, _inner(command))) or _quoted('')}",
        '                set place "$place $word"', "        end", "    end", "    echo $place", "end",
        f"complete -c {program} -f",
    ]  # fmt: skip
    for one in command.everything():
        at = f'test ({where}) = "{one.name}"'
        here = f"complete -c {program} -n {_fish_quoted(at)}"
        lines += [f"{here} -a {_fish_quoted(i.path[-1])} -d {_fish_quoted(i.help)}" for i in one.commands]
        lines += [f"{here} -a {_fish_quoted(' '.join(place.choices))}" for place in one.places if place.choices]
        if _wants_files(one):
            lines.append(f"{here} -F")
        lines += [f"{here} {_fish_option(option)}" for option in one.options]
    return "\n".join([*lines, ""])


def _fish_option(option: Option) -> str:
    parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    match option.value:
        case Value.NONE:
            pass
        case Value.FILE:
            parts.append("-r -F")
        case Value.CHOICE:
            parts.append(f"-x -a {_fish_quoted(' '.join(option.choices))}")
        case Value.OTHER:
            parts.append("-x")
    return " ".join([*parts, f"-d {_fish_quoted(option.help)}"])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
