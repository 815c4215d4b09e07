"""Fixtures of these tests."""

from tests.data.tiny_fixtures import own_root, tiny_root  # noqa: F401
