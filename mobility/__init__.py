"""Mobile IPv6 with IPsec in user space. Usable on its own; knows nothing of SIP."""
