"""`python -m vicuna_operator`."""

import sys

from vicuna_operator.cli import main

sys.exit(main())
