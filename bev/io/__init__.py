"""Readers and writers of files: images, point clouds, pickles from outside, column files."""

from bev.io.errors import FileError

__all__ = ["FileError"]
