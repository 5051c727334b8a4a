"""The configuration file: its format, its values, and how one becomes the other."""

from toxproxy.config.parsing import DEFAULT, Config, load, parse

__all__ = ["DEFAULT", "Config", "load", "parse"]
