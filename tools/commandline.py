"""The parser of toxproxy's command line, read for its manual page and for the documentation's site."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT))


def parser() -> argparse.ArgumentParser:
    """The whole parser. Its defaults are those of nobody in particular."""
    from toxproxy.cli.parser import make_parser

    with patch.dict(os.environ, HOME="/nonexistent"):
        os.environ.pop("XDG_STATE_HOME", None)
        return make_parser()


def common(parser: argparse.ArgumentParser) -> set[str]:
    """The options that every command has."""
    return {name for action in parser._actions for name in action.option_strings} - {"--version"}


def actions(parser: argparse.ArgumentParser, common: set[str]) -> list[argparse.Action]:
    """The options and arguments of a parser, without those that all have."""
    return [
        action
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction) and not common & set(action.option_strings)
    ]


def commands(parser: argparse.ArgumentParser) -> list[tuple[argparse.ArgumentParser, str]]:
    """The commands of a parser, each with its help."""
    return [
        (action.choices[choice.dest], str(choice.help))
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]
