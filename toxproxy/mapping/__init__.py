"""Asks the router to lead a UDP port of its public address to this machine (a port mapping)."""
