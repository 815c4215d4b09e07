"""A check of data and conventions before hours of training: what ``tools/check_data.py`` runs."""

from bev.engine.check_data.run import check_data

__all__ = ["check_data"]
