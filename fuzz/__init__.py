"""Hostile input for everything that reads some: `python -m fuzz` tries to find what was not thought of.

A target is a function of bytes that raises only for a bug. `targets` names them all, `guided` drives
one by its coverage (atheris), `blind` where atheris cannot be had. What is in `corpus` is tried
by the tests, too.
"""
