"""The configuration file: its format, its parser, and the settings that it gives."""

from toxproxy.config.parsing import load, parse
from toxproxy.config.settings import DEFAULT, Config

__all__ = ["DEFAULT", "Config", "load", "parse"]
