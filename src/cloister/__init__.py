"""Cloister: a self-hosted data collaborative."""

__version__ = "0.1.0"
