"""The errors that a user may see."""


class LadderError(Exception):
    """Bad input: the message is one line that says what, where and what to do."""


class NothingToQuantize(LadderError):
    """The graph has no weight that may change type, or its weights are already low-bit."""
