"""`python -m vicuna_operator`."""

import sys

from vicuna_operator.start import main

sys.exit(main())
