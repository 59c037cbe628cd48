"""Widgets that several screens use, or that a screen is made of."""
