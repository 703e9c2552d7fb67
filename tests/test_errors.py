"""What has to fail: its own failure passes, another stays, and none is a failure itself."""

import pytest

from harness.errors import HarnessError, NodeFailure, fails_with


def test_the_failure_that_is_expected_passes() -> None:
    with fails_with("ended with status 1"):
        raise NodeFailure("container parted of pod node ended with status 1: busy")


def test_a_scenarios_own_assertion_passes_too() -> None:
    with fails_with("did not grow"):
        raise AssertionError("partition 2 did not grow")


def test_no_failure_is_one() -> None:
    with pytest.raises(NodeFailure, match="does not fail as it should: ended with status 1"), fails_with("ended with status 1"):
        pass


@pytest.mark.parametrize("other", [NodeFailure("it died"), HarnessError("ended with status 1"), KeyError("x")])
def test_another_failure_stays_what_it_is(other: Exception) -> None:
    with pytest.raises(type(other), match=str(other.args[0])), fails_with("ended with status 1"):
        raise other
