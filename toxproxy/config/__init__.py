"""The configuration file: its format, its values, and how one becomes the other."""

from toxproxy.config.parsing import load, parse
from toxproxy.config.settings import DEFAULT, Config

__all__ = ["DEFAULT", "Config", "load", "parse"]
