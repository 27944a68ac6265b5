"""Label selectors, by Kubernetes' semantics."""

import pytest

from homeport_api.selector import Operator, Requirement, Selector

LABELS = {"kubernetes.io/metadata.name": "shop", "tier": "db", "marked": ""}


def requires(operator: Operator, key: str = "tier", *values: str) -> Selector:
    return Selector((), (Requirement(key, operator, values),))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param(Selector(), True, id="empty selects everything"),
        pytest.param(Selector((("kubernetes.io/metadata.name", "shop"),)), True, id="by name"),
        pytest.param(Selector((("tier", "db"), ("zone", "a"))), False, id="all labels must match"),
        pytest.param(Selector((("marked", ""),)), True, id="empty value, there"),
        pytest.param(Selector((("absent", ""),)), False, id="empty value needs the key"),
        pytest.param(requires(Operator.IN, "tier", "web", "db"), True, id="In"),
        pytest.param(requires(Operator.IN, "absent", "x"), False, id="In, label absent"),
        pytest.param(requires(Operator.IN, "absent", ""), False, id="In with the empty value, label absent"),
        pytest.param(requires(Operator.IN, "marked", ""), True, id="In with the empty value, there"),
        pytest.param(requires(Operator.NOT_IN, "tier", "web"), True, id="NotIn"),
        pytest.param(requires(Operator.NOT_IN, "absent", "x"), True, id="NotIn, label absent"),
        pytest.param(requires(Operator.NOT_IN, "tier", "db"), False, id="NotIn, there"),
        pytest.param(requires(Operator.EXISTS), True, id="Exists"),
        pytest.param(requires(Operator.EXISTS, "absent"), False, id="Exists, absent"),
        pytest.param(requires(Operator.DOES_NOT_EXIST, "absent"), True, id="DoesNotExist"),
        pytest.param(requires(Operator.DOES_NOT_EXIST), False, id="DoesNotExist, there"),
        pytest.param(
            Selector((("tier", "db"),), (Requirement("absent", Operator.EXISTS),)), False, id="both must hold"
        ),
    ],
)
def test_selects(selector: Selector, expected: bool) -> None:
    assert selector.selects(LABELS) is expected
