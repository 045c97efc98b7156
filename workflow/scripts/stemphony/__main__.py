"""`python -m stemphony`."""

import sys

from stemphony.cli import main

sys.exit(main())
