"""Command and option tables, parsing, formatting; thin."""
