"""Calls for the same thing wait, calls for different things do not."""

import threading
import time

import pytest

from homeport_agent.locks import KeyedLocks
from homeport_api.errors import Unavailable


def test_same_key_excludes_and_leaves_nothing_behind() -> None:
    locks = KeyedLocks()
    inside: list[int] = []

    def work(number: int) -> None:
        with locks.hold("key"):
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.002)
            inside.pop()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []
    assert locks.__dict__["_locks"] == {}


def test_a_key_is_busy_while_it_is_held_and_no_longer() -> None:
    locks = KeyedLocks()
    with locks.hold("a"):
        assert locks.busy("a")
        assert not locks.busy("b")
    assert not locks.busy("a")


def test_other_keys_are_free() -> None:
    locks = KeyedLocks()
    with locks.hold("a"), locks.hold("b"):
        pass


def test_a_key_kept_too_long_is_try_again_later() -> None:
    locks = KeyedLocks()
    with locks.hold("a"):
        failed: list[BaseException] = []

        def second() -> None:
            try:
                with locks.hold("a", timeout=0.02):
                    pass
            except Unavailable as error:
                failed.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert len(failed) == 1
    with locks.hold("a", timeout=0.02):
        pass
    with pytest.raises(ZeroDivisionError), locks.hold("a"):
        raise ZeroDivisionError
    with locks.hold("a", timeout=0.02):
        pass
