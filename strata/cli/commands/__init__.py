"""The tables of commands, one module per noun; ``strata.cli.index`` says which holds which."""
