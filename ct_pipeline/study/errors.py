"""Errors that a person can mend: each names the place, what was found, and what would be right."""


class UserError(Exception):
    """Something outside the program is wrong; the message says what and how to mend it, and no traceback is shown."""


class SpecError(UserError):
    """A study file is unreadable or holds what cannot be; one line a mistake: file:line: field: found; allowed."""


class CannotWrite(UserError):
    """Results cannot be stored (full disk, read-only folder): going on with anything else is useless."""
