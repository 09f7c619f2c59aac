"""`python -m vicuna_server`."""

import sys

from vicuna_server.cli import main

sys.exit(main())
