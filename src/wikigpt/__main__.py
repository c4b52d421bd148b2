"""`python -m wikigpt`, for where scripts are not on the PATH."""

from wikigpt.cli import main

main()
