"""How the far end connects: the rules, name look-ups, Happy Eyeballs, upstream proxies."""
