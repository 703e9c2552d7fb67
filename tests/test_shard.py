import pytest

from harness.errors import HarnessError
from harness.shard import Shard

_NAMES = [f"scenarios/resize.py::test_{number}" for number in range(200)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_the_parts_are_the_whole_and_no_test_is_in_two(count: int) -> None:
    for name in _NAMES:
        assert sum(Shard(number, count).has(name) for number in range(1, count + 1)) == 1


def test_the_parts_are_of_about_the_same_size() -> None:
    sizes = [sum(Shard(number, 4).has(name) for name in _NAMES) for number in range(1, 5)]
    assert max(sizes) < 2 * min(sizes)


def test_a_part_is_read_as_it_is_written() -> None:
    assert Shard.parse("2/4") == Shard(2, 4)


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "a/b", "1/4/2", "-1/4"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match="no shard"):
        Shard.parse(text)


def test_a_run_has_the_tests_of_its_part_only(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['harness.plugin']")
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_it(n): pass")
    passed = 0
    for number in (1, 2):
        outcomes = pytester.runpytest("--shard", f"{number}/2").parseoutcomes()
        assert outcomes["passed"] + outcomes["deselected"] == 40
        passed += outcomes["passed"]
    assert passed == 40
