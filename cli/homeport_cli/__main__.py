"""`python -m homeport_cli`: the command line without its script, as units and hypervisors' scripts call it."""

from homeport_cli.main import main

main()
