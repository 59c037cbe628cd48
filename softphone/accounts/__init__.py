"""Accounts: their settings and files, their passwords, trying one out, and all of them running together."""
