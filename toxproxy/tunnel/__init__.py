"""The session with one friend, through all the links that carry it."""
