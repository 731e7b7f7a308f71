"""What the report page shows, section by section: sentences, scales and positions in percent.

Each module prepares the values of some sections; the templates beside them hold the words. A
section without data is not shown.
"""
