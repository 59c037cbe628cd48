"""Fuzzing: targets that take any bytes and fail when a promise of the code is broken; `python -m tests.fuzz` runs them.

Without atheris, `test_corpus` replays what is kept in ``corpus/TARGET/``: inputs that found a defect, named after it.
"""
