"""`python -m star_actors.cli`: the same where scripts are not on the PATH."""

from . import main

main()
