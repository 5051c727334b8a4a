"""`toxproxy completion`: what has a shell complete the commands, made from their parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from toxproxy.pairing.words import word_list
from toxproxy.program.logs import Console

SHELLS = ("bash", "zsh", "fish")

# The script carries the words of an invitation: asking toxproxy for them would start Python at each key.
_WORDS = {
    "bash": '_toxproxy_words() {{\n  compgen -W "{words}" -- "$1"\n}}',
    "zsh": "_toxproxy_words() {{\n  compadd -- {words}\n}}",
    "fish": "function _toxproxy_words\n  printf '%s\\n' {words}\nend",
}
_USERS = {"bash": '_toxproxy_users() {\n  compgen -u -- "$1"\n}'}


def completion_command(args: argparse.Namespace, console: Console) -> int:
    """Print the script for a shell."""
    import shtab  # nothing else needs it

    from toxproxy.cli.parser import make_parser  # which has this command, too

    parser = make_parser()
    values = _values()
    for action in _actions(parser):
        if isinstance(action.metavar, str) and action.metavar in values:
            action.complete = values[action.metavar]  # type: ignore[attr-defined]
    script = shtab.complete(parser, args.shell)
    if args.shell == "zsh":
        script = script.replace(
            '"(*)::', '"*:'
        )  # shtab 1.13: (*) is the next argument alone, * all that follow
    print(script)
    return 0


def _values() -> dict[str, object]:
    """How values are completed, by what the help calls them."""
    import shtab

    words = " ".join(word_list())
    return {
        "CONFIG": shtab.FILE,
        "FILE": shtab.FILE,
        "DIR": shtab.DIRECTORY,
        "USER": {
            "bash": "_toxproxy_users",
            "zsh": "_users",
            "fish": "(__fish_complete_users)",
            "preamble": _USERS,
        },
        "WORD": {
            "bash": "_toxproxy_words",
            "zsh": "_toxproxy_words",
            "fish": "(_toxproxy_words)",
            "preamble": {shell: text.format(words=words) for shell, text in _WORDS.items()},
        },
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The options and arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
