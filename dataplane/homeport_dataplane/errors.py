"""What the kernel refuses, with its own words. Everything else is raised as one of `homeport_api.errors`."""

import errno
import os

from homeport_api.errors import HomeportError


class KernelRefused(HomeportError):
    """The kernel answered a request with an error. `errno` decides what a caller makes of it; the text carries what
    was asked and, where the kernel gave one, its extended explanation."""

    def __init__(self, code: int, operation: str, explanation: str = "") -> None:
        self.errno = code
        name = errno.errorcode.get(code, str(code))
        detail = f"{os.strerror(code)} ({name})" + (f": {explanation}" if explanation else "")
        super().__init__(f"{operation}: {detail}")


class RulesetRefused(HomeportError):
    """nftables did not take a ruleset, and nothing of it is in force. The text is nftables' own."""
