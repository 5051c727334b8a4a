"""The fault suite: thousands of streams over a link that is cut and lies, each byte of each checked.

`python -m faults` runs a server and a client as users do, at the two ends of an emulated link.
"""
