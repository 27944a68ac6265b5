"""Label selectors over the namespace's own label, by Kubernetes' semantics."""

import pytest

from homeport_ipam.admission import NAME_LABEL, selects

LABELS = {NAME_LABEL: "shop", "tier": "db"}


def expression(operator: str, key: str = "tier", *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({}, True, id="empty selects everything"),
        pytest.param({"matchLabels": {NAME_LABEL: "shop"}}, True, id="by name"),
        pytest.param({"matchLabels": {NAME_LABEL: "shop", "tier": "web"}}, False, id="all labels must match"),
        pytest.param(expression("In", "tier", "web", "db"), True, id="In"),
        pytest.param(expression("In", "absent", "x"), False, id="In, label absent"),
        pytest.param(expression("NotIn", "tier", "web"), True, id="NotIn"),
        pytest.param(expression("NotIn", "absent", "x"), True, id="NotIn, label absent"),
        pytest.param(expression("NotIn", "tier", "db"), False, id="NotIn, there"),
        pytest.param(expression("Exists"), True, id="Exists"),
        pytest.param(expression("Exists", "absent"), False, id="Exists, absent"),
        pytest.param(expression("DoesNotExist", "absent"), True, id="DoesNotExist"),
        pytest.param(expression("DoesNotExist"), False, id="DoesNotExist, there"),
        pytest.param({"matchLabels": {"tier": "db"}, **expression("Exists", "absent")}, False, id="both must hold"),
    ],
)
def test_selects(selector: dict[str, object], expected: bool) -> None:
    assert selects(selector, LABELS) is expected
