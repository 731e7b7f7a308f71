"""The doors: `python -m jobs` lists them, `python -m jobs.<mode> --help` explains one."""
