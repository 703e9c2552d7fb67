"""The two ways in which a run can go wrong, told apart: the node broke a promise, or the harness could not tell."""


class HarnessError(Exception):
    """The harness could not do its work: bad input, a missing tool, a broken host. Says what to do about it."""


class NodeFailure(AssertionError):
    """The node did not do what a kiOS user may expect of it."""
