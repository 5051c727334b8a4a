"""The two ends, wired together: the only room where the parts meet."""
