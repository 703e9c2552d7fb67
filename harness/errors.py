"""The two ways in which a run can go wrong, told apart: the node broke a promise, or the harness could not tell."""


class HarnessError(Exception):
    """The harness could not do its work: bad input, a missing tool, a broken host. Says what to do about it."""


class NodeFailure(AssertionError):  # noqa: N818 - a verdict on the node, not an error of the harness
    """The node did not do what a kiOS user may expect of it."""
