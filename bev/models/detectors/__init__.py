"""Whole detectors: the three doors forward, loss and predict over injected parts."""

from bev.models.detectors.base import Detector

__all__ = ["Detector"]
