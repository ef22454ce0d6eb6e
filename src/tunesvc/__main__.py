"""`python -m tunesvc` is `tunesvc`."""

from tunesvc.cli import main

main()
