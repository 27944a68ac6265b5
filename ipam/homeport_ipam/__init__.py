"""Addresses, MACs and holders: who owns what, decided purely and written in one transaction."""
