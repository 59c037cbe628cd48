"""Where the phone's sockets and names come from, and the record of its packets."""
