"""The fault suite: thousands of streams over a faulty link that is cut again and again.

`python -m faults` runs a server and a client as users do, at the two ends of an emulated link.
It checks every byte.
"""
