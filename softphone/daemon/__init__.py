"""The daemon: a process that owns the phones of all accounts; programs attach over a Unix socket (docs/daemon.md)."""
