"""The one error that a user can fix."""


class AutosegError(Exception):
    """Something the user can put right: what was found, what was expected, how to fix it.

    Parameters
    ----------
    found
        What is there, with the file's name where a file is concerned.
    expected
        What should have been there.
    fix
        What the user can do about it.
    """

    def __init__(self, *, found: str, expected: str, fix: str) -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        super().__init__(found, expected, fix)

    def __str__(self) -> str:
        return f"found: {self.found}\nexpected: {self.expected}\nfix: {self.fix}"

    def __reduce__(self) -> tuple:
        """Return what pickle needs: the arguments are keyword-only."""
        return _rebuild, (type(self), self.found, self.expected, self.fix)


def _rebuild(kind: type[AutosegError], found: str, expected: str, fix: str) -> AutosegError:
    return kind(found=found, expected=expected, fix=fix)
