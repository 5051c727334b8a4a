"""Hostile input for every parser: `python -m fuzz` searches for inputs that break something.

A target is a function that takes bytes and raises only for a bug. `targets` lists them. `guided` runs
one with coverage feedback (atheris); `blind` runs it without, where atheris is not installed. The tests
try every input in `corpus`.
"""
