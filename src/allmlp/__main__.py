"""`python -m allmlp`: the same as the command `allmlp`."""

import sys

from allmlp.cli import main

sys.exit(main())
