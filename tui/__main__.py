"""`python -m tui`: the desk. `rushes desk` checks the terminal first and then runs this."""

from tui.app import Desk

if __name__ == "__main__":
    Desk().run()
