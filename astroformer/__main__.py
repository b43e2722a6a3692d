"""`python -m astroformer` is the command `astroformer`."""

import sys

from astroformer.cli import main

sys.exit(main())
