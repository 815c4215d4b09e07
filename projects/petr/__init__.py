"""PETR: queries attend to image features that know where in space they look (arXiv 2203.05625)."""

from projects.petr.checkpoint import PETR_FILES
from projects.petr.detector import PETR
from projects.petr.head import PETRHead

__all__ = ["PETR_FILES", "PETR", "PETRHead"]
