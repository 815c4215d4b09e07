"""Measurements: ``python -m benchmarks.NAME [--threads 1] [--quick]``, each ending with one line of JSON."""
