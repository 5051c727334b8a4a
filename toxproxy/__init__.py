"""toxproxy: a peer-to-peer tunnel over the Tox network.

Two machines of one person find each other by public key, without a server in between,
and carry any number of TCP connections over one encrypted link.
"""

__version__ = "0.1.0"
