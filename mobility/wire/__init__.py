"""Formats: bytes <-> frozen values. No state."""
