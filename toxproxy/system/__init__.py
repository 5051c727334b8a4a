"""What the operating system is asked for, and where operating systems differ."""
