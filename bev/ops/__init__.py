"""Operators: one file each, with a plain reference form, a fast form and a gradient."""
