"""`python -m vicuna_server`."""

import sys

from vicuna_server.start import main

sys.exit(main())
