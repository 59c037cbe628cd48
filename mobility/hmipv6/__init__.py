"""Hierarchical Mobile IPv6 (RFC 5380): the mobility anchor point, and the terminal's regional part."""
