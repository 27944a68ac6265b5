"""`policy trace`: what is asked of the agent, and how its answer is told."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from .harness import Cli, Listener

ALLOW, DENY = "NetworkPolicy shop/allow-web", "NetworkPolicy shop/default-deny"


def ruling(allowed: bool | None, policy: str | None = None, rule: int | None = None, by: tuple[str, ...] = ()) -> Any:
    return {"allowed": allowed, "policy": policy, "rule": rule, "isolatedBy": list(by)}


def live(told: Any, chain: str | None = None, counter: str | None = None, packets: int | None = None) -> Any:
    return told | {"chain": chain, "counter": counter, "packets": packets, "changed": []}


FREE, BY_RULE, DENIED = ruling(True), ruling(True, ALLOW, 0), ruling(False, by=(ALLOW, DENY))
V4 = {"family": "IPv4", "source": "10.1.0.1", "target": "10.1.0.2"}
V6 = {"family": "IPv6", "source": "2001:db8::1", "target": "2001:db8::2"}
COMMON = {
    "packet": {"from": "shop/web:eth0", "to": "shop/db:eth0", "domain": "bond0:100", "protocol": "tcp", "port": 5432},
    "node": "a",
    "versions": {"homeport": "0.1.0", "kernel": "6.1.0"},
}


def answer(verdict: str, oracle: list[Any], kernel: Any, policy: str | None = None, rule: int | None = None) -> Any:
    allowed = all(each["allowed"] for each in oracle)
    asked = {"asked": True, "reason": None, "allowed": allowed, "muted": {}, "notAsked": [], "families": []} | kernel
    told = {"verdict": verdict, "policy": policy, "rule": rule, "oracle": {"allowed": allowed, "families": oracle}}
    return COMMON | told | {"kernel": asked}


def allowed() -> Any:
    oracle = [V4 | {"allowed": True, "egress": FREE, "ingress": BY_RULE}]
    kernel = [
        V4 | {"hindered": [], "zone": 16384, "egress": live(FREE), "ingress": live(BY_RULE, "in_12", "p_34_0", 17)}
    ]
    return answer("allowed", oracle, {"families": kernel}, ALLOW, 0)


def denied() -> Any:
    oracle = [
        V4 | {"allowed": True, "egress": FREE, "ingress": BY_RULE},
        V6 | {"allowed": False, "egress": FREE, "ingress": DENIED},
    ]
    absent = {"direction": "egress", "end": "shop/web:eth0", "reason": "is on node b, whose kernel decides there"}
    kernel = [
        V4 | {"hindered": [], "zone": 1, "egress": None, "ingress": live(BY_RULE, "in_12", "p_34_0", 1)},
        V6 | {"hindered": [], "zone": 1, "egress": None, "ingress": live(DENIED, "in_12", "in_12_denied", 4)},
    ]
    return answer("denied", oracle, {"families": kernel, "notAsked": [absent]}, f"{ALLOW}, {DENY}")


def disagreeing() -> Any:
    oracle = [V4 | {"allowed": False, "egress": ruling(True), "ingress": DENIED}]
    unknown = live(ruling(None), "out_77") | {"changed": ["out_77"]}
    kernel = [V4 | {"hindered": [], "zone": 1, "egress": unknown, "ingress": live(FREE)}]
    return answer("disagree", oracle, {"families": kernel}, f"{ALLOW}, {DENY}")


def untracked() -> Any:
    oracle = [V4 | {"allowed": True, "egress": FREE, "ingress": BY_RULE}]
    kernel = {"asked": False, "reason": "this kernel does not track", "muted": {"shop/db:eth0": "hp1"}}
    return answer("allowed", oracle, kernel, ALLOW, 0)


@pytest.mark.parametrize(
    ("made", "code", "expected"),
    [
        pytest.param(
            allowed,
            0,
            f"""\
allowed: shop/web:eth0 to shop/db:eth0, 5432/tcp, in bond0:100
IPv4 10.1.0.1 to 10.1.0.2: allowed
  egress from shop/web:eth0: allowed: no policy isolates it
    kernel: allowed: no policy isolates it
  ingress to shop/db:eth0: allowed by {ALLOW}, rule 0 (spec.ingress[0])
    kernel: allowed by {ALLOW}, rule 0 (spec.ingress[0]), chain in_12, counter p_34_0 17 packets
""",
            id="allowed",
        ),
        pytest.param(
            denied,
            10,
            f"""\
denied: shop/web:eth0 to shop/db:eth0, 5432/tcp, in bond0:100
IPv4 10.1.0.1 to 10.1.0.2: allowed
  egress from shop/web:eth0: allowed: no policy isolates it
  ingress to shop/db:eth0: allowed by {ALLOW}, rule 0 (spec.ingress[0])
    kernel: allowed by {ALLOW}, rule 0 (spec.ingress[0]), chain in_12, counter p_34_0 1 packet
IPv6 2001:db8::1 to 2001:db8::2: denied
  egress from shop/web:eth0: allowed: no policy isolates it
  ingress to shop/db:eth0: denied: isolated by {ALLOW}, {DENY}; none allows it
    kernel: denied: isolated by {ALLOW}, {DENY}; none allows it, chain in_12, counter in_12_denied 4 packets
kernel not asked about the egress: shop/web:eth0 is on node b, whose kernel decides there
""",
            id="one family is denied, and one end is elsewhere",
        ),
        pytest.param(
            disagreeing,
            11,
            f"""\
disagree: shop/web:eth0 to shop/db:eth0, 5432/tcp, in bond0:100
IPv4 10.1.0.1 to 10.1.0.2: denied
  egress from shop/web:eth0: allowed: no policy isolates it
    kernel: unknown: somebody changed out_77
  ingress to shop/db:eth0: denied: isolated by {ALLOW}, {DENY}; none allows it
    kernel: allowed: no policy isolates it

*** DISAGREEMENT: what should be enforced is not what this kernel enforces ***
Somebody changed the rules of table `bridge homeport`, or this is a bug of Homeport: please report all of
this, with the output of `-o json`.
  versions: homeport 0.1.0, kernel 6.1.0; node a
  packet:   shop/web:eth0 to shop/db:eth0, tcp port 5432, in bond0:100
  IPv4 egress: oracle says allowed: no policy isolates it
               kernel says unknown: somebody changed out_77
  IPv4 ingress: oracle says denied: isolated by {ALLOW}, {DENY}; none allows it
                kernel says allowed: no policy isolates it
""",
            id="a disagreement",
        ),
        pytest.param(
            untracked,
            0,
            f"""\
allowed: shop/web:eth0 to shop/db:eth0, 5432/tcp, in bond0:100
IPv4 10.1.0.1 to 10.1.0.2: allowed
  egress from shop/web:eth0: allowed: no policy isolates it
  ingress to shop/db:eth0: allowed by {ALLOW}, rule 0 (spec.ingress[0])
kernel not asked: this kernel does not track
muted here: shop/db:eth0 (port hp1); nothing passes, since this kernel cannot enforce what isolates it
""",
            id="a kernel that cannot",
        ),
    ],
)
def test_the_answer_is_told(cli: Cli, agent: Listener, made: Callable[[], Any], code: int, expected: str) -> None:
    agent.answer = {"ok": True, "result": made()}
    result = cli("policy", "trace", "--from", "shop/web", "--to", "shop/db", "--port", "5432/tcp")
    assert result.stdout == expected
    assert result.exit_code == code
    shown = cli("policy", "trace", "--from", "shop/web", "--to", "shop/db", "--port", "5432/tcp", "-o", "json")
    assert (json.loads(shown.stdout), shown.exit_code) == (made(), code)


def test_the_request_says_what_was_asked(cli: Cli, agent: Listener) -> None:
    agent.answer = {"ok": True, "result": allowed()}
    cli(
        "policy",
        "trace",
        "--from",
        "web:eth1",
        "--to",
        "2001:db8::1",
        "--port",
        "http",
        "--network",
        "blue",
        "-n",
        "shop",
    )
    cli("policy", "trace", "--from", "web", "--to", "db", "--icmp")
    assert agent.asked == [
        {
            "verb": "trace",
            "namespace": "shop",
            "from": "web:eth1",
            "to": "2001:db8::1",
            "port": "http",
            "network": "blue",
        },
        {"verb": "trace", "namespace": "default", "from": "web", "to": "db"},
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--from", "a"], "--to", id="half"),
        pytest.param(["--from", "a", "--to", "b", "--port", "80/icmp"], "'80/icmp' is not a port", id="no protocol"),
        pytest.param(["--from", "a", "--to", "b", "--port", "80", "--icmp"], "exclude each other", id="both"),
    ],
)
def test_usage_is_two_and_asks_nobody(cli: Cli, agent: Listener, arguments: list[str], says: str) -> None:
    result = cli("policy", "trace", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert agent.asked == []


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [pytest.param(107, 3, id="not there"), pytest.param(7, 2, id="ambiguous"), pytest.param(11, 4, id="away")],
)
def test_what_the_agent_refuses(cli: Cli, agent: Listener, code: int, exit_code: int) -> None:
    agent.answer = {"ok": False, "code": code, "msg": "for a reason"}
    result = cli("policy", "trace", "--from", "a", "--to", "b")
    assert (result.exit_code, result.stderr) == (exit_code, "Error: for a reason\n")


def test_without_an_agent(cli: Cli) -> None:
    cli.environ["HOMEPORT_RUN_DIR"] = "/nonexistent"
    assert cli("policy", "trace", "--from", "a", "--to", "b").exit_code == 4
