"""The one exception for mistakes of the user's: wrong input, wrong settings, wrong folder.

The command line prints its message without a traceback and exits with status 2.
"""


class UserError(ValueError):
    """Something the user can put right; the message says what is wrong, where, and what to do."""
