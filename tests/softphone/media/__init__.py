"""Tests of the audio of a call."""
