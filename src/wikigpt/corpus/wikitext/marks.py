"""Control characters that stand in for decisions while a page is read.

The reader removes any that the page itself contains before it starts, so none can be forged.
"""

import re

KEEP_OPEN = "\x01"  # text up to KEEP_CLOSE is not converted to another script
KEEP_CLOSE = "\x02"
ZERO = "\x03"
RULE = "\x04"  # with RULE_BITS of ZERO and RULE, its number in binary: from here on, a rule of the page holds
RULE_BITS = 16
GONE = "\x05"  # something was dropped here that may leave an empty bracket behind
HEADING = "\x06"  # stands before a heading until empty sections have been dropped
GONE_WITH_BRACKETS = "\x0e"  # the same, and the bracket around it says nothing without it
OWN_BRACKETS = "\x0f"  # a template brings this bracket; written inside another one it is dropped
STRIP = "\x7f"  # \x7f12\x7f stands for the 12th piece of literal text (<nowiki>, <math>, …)

# The first two pieces of literal text of every page: a colon and a pipe that are not markup.
LITERALS = (":", "|")
COLON = f"{STRIP}0{STRIP}"
PIPE = f"{STRIP}1{STRIP}"

ANY_MARK = re.compile("[\x01-\x06\x0e\x0f]|\x7f[0-9]+\x7f")
