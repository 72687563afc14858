"""`python -m appliance`: the CLI from a clone that is not installed."""

import sys

from appliance.cli.main import main

sys.exit(main())
