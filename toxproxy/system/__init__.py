"""Requests to the operating system. Where systems differ, the difference is here."""
