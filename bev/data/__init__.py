"""Data sets, transforms, samplers."""
