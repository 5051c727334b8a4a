"""Whether a secret can be guessed."""

from __future__ import annotations

LEAST = 12  # characters
LEAST_DIFFERENT = 6

# Those of README.md and examples/, which everybody can read.
PUBLISHED = frozenset({"a long pass phrase", "another pass phrase", "change this pass phrase"})


def weakness(secret: str) -> str | None:
    """What makes it easy to guess, as the end of a sentence; None for a secret that is not."""
    if secret.lower() in PUBLISHED:
        return "is the one of an example, which everybody knows"
    if len(secret) < LEAST:
        return f"has fewer than {LEAST} characters"
    if len(set(secret)) < LEAST_DIFFERENT:
        return f"has fewer than {LEAST_DIFFERENT} different characters"
    return None
