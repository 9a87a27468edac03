"""The commands of ``labkit``, one file each."""
