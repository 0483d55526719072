"""Command and option tables, parsing, formatting; thin.

``index`` names every command and its table module, ``commands`` holds the tables, ``parse`` reads
a command line by them, ``values`` turns option texts into values, ``handlers`` call the engine and
``format`` prints. Help, completion and the reference derive from the same tables.
"""
