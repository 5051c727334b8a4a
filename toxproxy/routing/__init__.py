"""Which way a connection leaves: the rules of [route], and the order of several exits. Pure."""
