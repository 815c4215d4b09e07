"""Detectors and their parts; importing this registers them all."""

from bev.models import backbones, coders, detectors, heads, necks, preprocess, view

__all__ = ["backbones", "coders", "detectors", "heads", "necks", "preprocess", "view"]
