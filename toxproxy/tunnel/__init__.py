"""The session with one friend, over all the links that carry it one after the other."""
