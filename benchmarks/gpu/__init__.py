"""GPU kernels and whole models on a CUDA device: ``python -m benchmarks.gpu``."""
