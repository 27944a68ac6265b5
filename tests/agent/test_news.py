"""A resync repeats everything, and is told by what it does not repeat."""

from homeport_agent.news import News
from homeport_store.protocol import Change


def put(key: str, value: bytes, revision: int, *, resync: bool = False) -> Change:
    return Change(key, value, revision, revision, resync)


def gone(key: str, revision: int, *, resync: bool = False) -> Change:
    return Change(key, None, 0, revision, resync)


def heard(news: News, *changes: Change) -> list[str]:
    return [change.key for change in news.of(changes)]


def test_a_repeat_is_no_news_and_a_change_is() -> None:
    news = News()
    assert heard(news, put("a", b"1", 1), put("b", b"1", 2), put("c", b"1", 3)) == ["a", "b", "c"]
    again = [put("a", b"1", 1), put("b", b"2", 5), gone("c", 6), gone("never", 6), put("d", b"1", 4)]
    resync = [Change(each.key, each.value, each.create_revision, each.mod_revision, True) for each in again]
    assert heard(news, *resync) == ["b", "c", "d"]
    assert heard(news, *resync) == []


def test_a_copy_that_went_on_elsewhere_has_the_same_revisions_for_something_else() -> None:
    news = News()
    assert heard(news, put("a", b"1", 7)) == ["a"]
    assert heard(news, put("a", b"2", 7, resync=True)) == ["a"]


def test_what_is_told_outside_a_resync_is_always_news() -> None:
    """Of one key it may be the same value again, and whoever waits for it waits for its revision."""
    news = News()
    assert heard(news, put("a", b"1", 1), put("a", b"1", 2), gone("a", 3), gone("a", 4)) == ["a", "a", "a", "a"]
    assert heard(news, put("a", b"1", 1, resync=True)) == ["a"]
