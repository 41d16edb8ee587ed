"""`python -m bridge` is `hearth`, for when the script is not on the path."""

from bridge.cli import main

main(prog_name="hearth")
