"""The call matrix: our phone and others, over every transport, with every kind of keys, over both versions of IP.

`python -m tests.interop.matrix` (``make matrix``) makes all calls and writes docs/matrix.md; CI makes a few of them.
"""
