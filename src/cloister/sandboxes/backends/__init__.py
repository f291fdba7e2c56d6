"""Implementations of the backend port."""
