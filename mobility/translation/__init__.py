"""IPv4-IPv6 translation for programs that only speak IPv4 (embodiments 1 and 3; Figs. 5 and 6; RFC 7915)."""
