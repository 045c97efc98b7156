"""Start the command with `python -P -m stemphony`. Without -P, Python first imports from the working directory."""

import sys
from pathlib import Path

from stemphony.interpreters import leave_out_working_directory

leave_out_working_directory(Path(__file__).parent)

from stemphony.cli import main  # noqa: E402  not before the path is clean

sys.exit(main())
