"""Completion scripts for bash, zsh and fish, drawn from the argparse tree of every command.

``tree`` turns the parsers into plain values; one renderer for each shell turns these into a script. Descriptions
and words are quoted for the shell; nothing is evaluated while completing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final, NamedTuple

from townhall.ops.cli import build_parser
from townhall.ops.commands import TABLE

__all__ = ["RENDERERS", "Leaf", "OptionWords", "bash", "fish", "tree", "zsh"]


class OptionWords(NamedTuple):
    """One option: its spellings, what follows it, and whether that is a file or a directory."""

    names: tuple[str, ...]
    about: str
    value: bool
    choices: tuple[str, ...]
    files: bool


class Leaf(NamedTuple):
    """One command (``()`` is townhall itself): what may follow it."""

    path: tuple[str, ...]
    about: str
    options: tuple[OptionWords, ...]
    words: tuple[tuple[str, str], ...]
    """Sub-commands or choices of the first positional, each with its description."""
    files: bool
    """Whether a positional is a file or a directory."""


_PATHS: Final = ("FILE", "DIR")


def tree() -> tuple[Leaf, ...]:
    """Every command with its sub-commands, the root first."""
    root = Leaf((), "", (), tuple((row.name, row.about) for row in TABLE), files=False)
    leaves = [root]
    for row in TABLE:
        leaves.extend(_leaves((row.name,), row.about, build_parser(row)))
    return tuple(leaves)


def _leaves(path: tuple[str, ...], about: str, parser: argparse.ArgumentParser) -> Iterator[Leaf]:
    options: list[OptionWords] = []
    words: list[tuple[str, str]] = []
    files = False
    below: list[Leaf] = []
    for action in parser._actions:  # argparse shows its tree nowhere else
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                words.append((name, helps.get(name, "")))
                below.extend(_leaves((*path, name), helps.get(name, ""), child))
        elif action.option_strings:
            options.append(_option(action))
        else:
            words.extend((str(choice), "") for choice in action.choices or ())
            files = files or action.metavar in _PATHS
    yield Leaf(path, about, tuple(options), tuple(words), files)
    yield from below


def _option(action: argparse.Action) -> OptionWords:
    metavar = str(action.metavar or "")
    choices = tuple(str(choice) for choice in action.choices or ())
    if not choices and metavar.startswith("{"):
        choices = tuple(metavar.strip("{}").split(","))
    about = " ".join((action.help or "").replace("%%", "%").split())
    return OptionWords(tuple(action.option_strings), about, action.nargs != 0, choices, metavar in _PATHS)


def _paths() -> Iterator[str]:
    """Of a ``case`` in bash and zsh: the words of each command lead to its path."""
    for leaf in tree():
        if leaf.path:
            path = _quoted(_bash_path(leaf))
            yield f"            {path}) path={path};;"


def _valued() -> Iterator[tuple[str, OptionWords]]:
    """The options whose values can be completed, with their patterns in a ``case`` over path and previous word."""
    for leaf in tree():
        for option in leaf.options:
            if option.choices or option.files:
                yield "|".join(_quoted(f"{_bash_path(leaf)} {name}") for name in option.names), option


def bash() -> str:
    """For ``source <(townhall completion bash)`` or /etc/bash_completion.d."""
    lines = [
        "# bash completion for townhall",
        "_townhall() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" path="" word',
        "    COMPREPLY=()",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '        case "$path $word" in',
        *_paths(),
        "        esac",
        "    done",
        '    case "$path $previous" in',
    ]
    for patterns, option in _valued():
        words = f"-W {_quoted(' '.join(option.choices))}" if not option.files else "-f"
        lines.append(f'        {patterns}) COMPREPLY=($(compgen {words} -- "$current")); return;;')
    lines += ["    esac", '    case "$path" in']
    for leaf in tree():
        words = " ".join([word for word, _ in leaf.words] + [name for option in leaf.options for name in option.names])
        files = ' $(compgen -f -- "$current")' if leaf.files else ""
        lines.append(
            f'        {_quoted(_bash_path(leaf))}) COMPREPLY=($(compgen -W {_quoted(words)} -- "$current"){files});;'
        )
    lines += ["    esac", "}", "complete -o filenames -F _townhall townhall", ""]
    return "\n".join(lines)


def zsh() -> str:
    """For a directory of ``$fpath``, as ``_townhall``."""
    lines = [
        "#compdef townhall",
        "_townhall() {",
        '    local path="" word',
        "    local -a entries",
        '    for word in "${(@)words[2,CURRENT-1]}"; do',
        '        case "$path $word" in',
        *_paths(),
        "        esac",
        "    done",
        '    case "$path ${words[CURRENT-1]}" in',
    ]
    for patterns, option in _valued():
        action = "_files" if option.files else "compadd -- " + " ".join(_quoted(choice) for choice in option.choices)
        lines.append(f"        {patterns}) {action}; return;;")
    lines += ["    esac", '    case "$path" in']
    for leaf in tree():
        entries = [_zsh_entry(word, about) for word, about in leaf.words]
        entries += [_zsh_entry(name, option.about) for option in leaf.options for name in option.names]
        lines.append(
            f"        {_quoted(_bash_path(leaf))}) entries=({' '.join(entries)}){'; _files' if leaf.files else ''};;"
        )
    lines += [
        "    esac",
        "    _describe townhall entries",
        "}",
        'if [ "$funcstack[1]" = "_townhall" ]; then _townhall "$@"; else compdef _townhall townhall; fi',
        "",
    ]
    return "\n".join(lines)


def fish() -> str:
    """For ~/.config/fish/completions/townhall.fish."""
    lines = ["# fish completion for townhall", "complete -c townhall -f"]
    for leaf in tree():
        condition = _fish_condition(leaf)
        lines += [
            f"complete -c townhall -n {condition} -a {_quoted(word)} -d {_quoted(about)}" for word, about in leaf.words
        ]
        if leaf.files:
            lines.append(f"complete -c townhall -n {condition} -F")
        for option in leaf.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = (
                f" -x -a {_quoted(' '.join(option.choices))}"
                if option.choices
                else " -r -F"
                if option.files
                else " -r"
                if option.value
                else ""
            )
            lines.append(f"complete -c townhall -n {condition} {names}{value} -d {_quoted(option.about)}")
    return "\n".join([*lines, ""])


RENDERERS: Final = {"bash": bash, "zsh": zsh, "fish": fish}


def _bash_path(leaf: Leaf) -> str:
    return "".join(f" {part}" for part in leaf.path)


def _fish_condition(leaf: Leaf) -> str:
    if not leaf.path:
        return "__fish_use_subcommand"
    seen = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in leaf.path)
    under = [word for word, _ in leaf.words]
    return _quoted(f"{seen}; and not __fish_seen_subcommand_from {' '.join(under)}" if under else seen)


def _zsh_entry(word: str, about: str) -> str:
    escaped = word.replace(":", "\\:")
    return _quoted(f"{escaped}:{about}" if about else escaped)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
