"""The nftables ruleset as typed values and its rendering. Pure: no I/O, no clock, no log."""
