"""The command line: commands to Config to ``trio.run``, and exit codes."""


def main() -> None:
    """Run the command that the arguments name."""
