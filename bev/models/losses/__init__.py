"""Losses as plain functions and modules."""
