"""What readers of files share."""

from __future__ import annotations

from pullback.errors import ArgumentError


def unreadable(name: str, error: OSError) -> ArgumentError:
    """The error for a file that the system does not let us read."""
    return ArgumentError(f"{name} cannot be read: {error.strerror}")
