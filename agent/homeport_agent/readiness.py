"""Whether this node can serve an ADD, for STATUS and /readyz.

STATUS fails for four reasons only, since kubelet makes a node NotReady for it: the agent is not there (the shim's
answer), nft refuses, the named Network's pool is exhausted, the store has been away for the whole grace. Everything
else is a condition and a metric.
"""

from collections.abc import Callable
from random import Random

from homeport_api.errors import Exhausted, HomeportError, Unavailable
from homeport_ipam.view import View

Clock = Callable[[], float]


class Readiness:
    """`stale_since` is the time (same clock) since which the store has not answered, None while it does."""

    def __init__(
        self,
        view: View,
        stale_since: Callable[[], float | None],
        check_rules: Callable[[], None],
        grace: float,
        clock: Clock,
    ) -> None:
        self._view = view
        self._stale_since = stale_since
        self._check_rules = check_rules
        self._grace = grace
        self._clock = clock
        self._random = Random()

    @property
    def store_up(self) -> bool:
        return self._stale_since() is None

    def require(self, network: str | None) -> None:
        """Raises Unavailable or Exhausted with the reason; returns when an ADD could work."""
        since = self._stale_since()
        if since is not None and (away := self._clock() - since) >= self._grace:
            raise Unavailable(f"the store has been out of reach for {away:.0f} s; running guests are not affected")
        try:
            self._check_rules()
        except HomeportError as error:
            raise Unavailable(f"nftables refuses: {error}") from error
        if network is not None:
            self._require_pool(network)

    def _require_pool(self, name: str) -> None:
        with self._view.reading() as reading:
            network = reading.network(name)
            if network is None or not network.spec.ipam.pools:
                return
            for version in sorted({pool.cidr.version for pool in network.spec.ipam.pools}):
                if reading.occupancy(network, version).choose(self._random) is None:
                    raise Exhausted(
                        f"Network {name}: no IPv{version} address is left: add a pool or release Interfaces "
                        "(homeport get interfaces -A)"
                    )
