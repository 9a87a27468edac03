"""``python -m labkit``, which is ``labkit`` where the script is not on the path."""

from labkit.cli import main

if __name__ == "__main__":
    main(prog_name="labkit")
