"""`python -m appliance.daemon`."""

import sys

from appliance.daemon.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
