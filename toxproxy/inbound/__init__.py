"""The near end's listening ports, and the protocols of their clients: SOCKS and HTTP."""
