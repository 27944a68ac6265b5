"""Options become a store, or an error that names each wrong one."""

from pathlib import Path

import pytest

from homeport_api.errors import Invalid, Unavailable
from homeport_netns_fixtures.etcd import Etcd, make_certificates
from homeport_store.connect import StoreOptions, connect

DATA = Path("/var/lib/homeport")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        pytest.param("http://127.0.0.1:2379", "without TLS", id="no TLS"),
        pytest.param("http://etcd.example:2379", "without TLS", id="no TLS, far"),
        pytest.param("127.0.0.1:2379", "write https://HOST:2379", id="no scheme"),
        pytest.param("etcd:2379", "write https://HOST:2379", id="host as scheme"),
        pytest.param("https://etcd", "write https://HOST:2379", id="no port"),
        pytest.param("https://etcd:2379/v3", "without a path", id="path"),
        pytest.param("https://etcd:99999", "write https://HOST:2379", id="port"),
        pytest.param("https://[::1:2379", "write https://HOST:2379", id="half an IPv6 address"),
        pytest.param("unix://client:0", "write unix:///ABSOLUTE/PATH", id="relative socket"),
        pytest.param("unix:///" + "x" * 107, "at most 107 bytes", id="long socket"),
        pytest.param("", "write https://HOST:2379", id="empty"),
    ],
)
def test_wrong_endpoints(endpoint: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as refused:
        connect(StoreOptions(DATA, (endpoint,)))
    assert refused.value.fields[0].path == "--etcd-endpoints"


def test_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    options = StoreOptions(DATA, ("https://a:1", "http://b:1", "c"), cacert=tmp_path / "absent")
    with pytest.raises(Invalid) as refused:
        connect(options)
    assert [field.path for field in refused.value.fields] == [
        *("--etcd-endpoints", "--etcd-endpoints"),
        *("--cacert", "--cert", "--key"),
    ]
    assert "No such file" in str(refused.value)


def test_plaintext_is_for_loopback_alone() -> None:
    connect(StoreOptions(DATA, ("http://127.0.0.1:2379", "http://[::1]:2379")), allow_plaintext=True).close()
    for far in ("http://10.0.0.1:2379", "http://localhost:2379"):
        with pytest.raises(Invalid, match="without TLS"):
            connect(StoreOptions(DATA, (far,)), allow_plaintext=True)


@pytest.mark.host
class TestFiles:
    @pytest.fixture
    def options(self, tmp_path: Path) -> StoreOptions:
        made = make_certificates(tmp_path / "tls")
        return StoreOptions(DATA, ("https://127.0.0.1:2379",), made.ca, made.client_cert, made.client_key)

    def test_that_fit(self, options: StoreOptions) -> None:
        connect(options).close()

    def test_key_of_another(self, options: StoreOptions, tmp_path: Path) -> None:
        other = make_certificates(tmp_path / "other").client_key
        with pytest.raises(Invalid, match="are no pair"):
            connect(StoreOptions(DATA, options.endpoints, options.cacert, options.cert, other))

    @pytest.mark.parametrize("which", ["cacert", "cert", "key"])
    @pytest.mark.parametrize("content", [b"", b"\xff\x00 no PEM"])
    def test_rubbish(self, options: StoreOptions, tmp_path: Path, which: str, content: bytes) -> None:
        rubbish = tmp_path / "rubbish"
        rubbish.write_bytes(content)
        files = {"cacert": options.cacert, "cert": options.cert, "key": options.key} | {which: rubbish}
        with pytest.raises(Invalid, match="rubbish"):
            connect(StoreOptions(DATA, options.endpoints, **files))


@pytest.mark.host
def test_an_external_cluster(quiet_three: Etcd) -> None:
    made = quiet_three.certificates
    assert made is not None
    store = connect(StoreOptions(DATA, quiet_three.endpoints, made.ca, made.client_cert, made.client_key))
    assert store.put_if("/connect", b"1", 0) is not None
    store.close()


def test_the_embedded_one_that_does_not_run() -> None:
    store = connect(StoreOptions(Path("/nowhere")), timeout=0.2)
    with pytest.raises(Unavailable, match="/nowhere/etcd/client:0 is out of reach"):
        store.get("/a")
    store.close()
