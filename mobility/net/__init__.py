"""All input and output: TUN, packet sockets, namespaces, netlink, the event loop, and their in-memory twins."""
