"""The subcommands of the command line, a file each: dataclasses whose fields are the options."""
