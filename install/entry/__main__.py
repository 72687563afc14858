"""`python -m rushes`."""

import sys

from rushes import main

sys.exit(main())
