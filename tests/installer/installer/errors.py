"""The one error that ends an installation."""


class InstallError(Exception):
    """What was attempted, on what; what caused it travels as `__cause__`."""


def chain(error):
    """An error and its causes, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__
