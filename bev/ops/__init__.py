"""Operators: a plain reference, a fast path, autograd and an export form each."""
