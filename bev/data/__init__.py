"""Data sets: nuScenes and what feeds it."""
