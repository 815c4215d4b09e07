"""The one error of every reader."""

from __future__ import annotations


class FileError(ValueError):
    """A file, or a record in it, that cannot be used; the message names both and says what was expected."""
